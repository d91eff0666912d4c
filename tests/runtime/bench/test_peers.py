"""Ratios and processes of peers. What peers compute is checked in tests/parity/test_peers.py."""

import json
from pathlib import Path

import pytest
from PIL import Image

import solvers
from export.peers.networks import PEERS as SERVED
from runtime.bench.peers import PEERS, Peer, PeerError, Peers, PeerTask, peers_named, psnr, ratios
from runtime.bench.photo import picture_file
from tests.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    (folder / "photo.png").write_bytes(picture_file(32, 16))
    return PeerTask(
        bundle=write_tiny_bundle(folder / "bundle"),
        checkpoint=None,
        config=None,
        context=None,
        device="cpu",
        threads=1,
        plan=solvers.plan(steps=2),
        seed=1,
        photo=folder / "photo.png",
    )


def test_every_peer_that_can_be_named_is_served():
    assert tuple(SERVED) == PEERS


def test_names():
    assert peers_named(["openvino", "eager", "openvino"], "cpu") == ("openvino", "eager")
    assert "eager-half" not in peers_named(["all"], "cpu")
    assert peers_named(["all", "eager-half"], "cpu")[-1] == "eager-half"
    assert "openvino" not in peers_named(["all"], "cuda")


def test_a_peer_takes_turns(task, tmp_path):
    with Peers(["onnxruntime"], task, tmp_path) as peers:
        assert peers.failed == {}
        (peer,) = peers.open
        assert "canonical graphs" in peer.loaded["description"]
        assert peer.loaded["load"] > 0
        peers.warm_up()
        peers.turns(2)
        peers.turns(1)
        assert [len(answers) for answers in peer.rounds] == [2, 1]
        answer = peer.rounds[0][0]
        assert answer["seconds"] >= answer["timings"]["total"] > 0
        assert answer["peak_memory"] > 1 << 20
    with Image.open(tmp_path / "onnxruntime.png") as image:
        assert image.size == (128, 64)


def test_a_peer_that_cannot_be_opened_says_why(task, tmp_path):
    with Peers(["eager", "onnxruntime"], task, tmp_path) as peers:
        why = "CheckpointNotFoundError: PyTorch needs the checkpoint of the bundle; pass --checkpoint model.ckpt"
        assert peers.failed == {"eager": why}
        assert [peer.name for peer in peers.open] == ["onnxruntime"]


def test_a_peer_that_dies_is_out(task, tmp_path):
    with Peers(["onnxruntime"], task, tmp_path) as peers:
        peers.open[0]._process.kill()
        peers.turns(1)
        assert peers.open == []
        assert peers.failed == {"onnxruntime": "the process onnxruntime ended with code -9"}


def test_a_checkpoint_that_is_not_there(task, tmp_path):
    from dataclasses import replace

    with pytest.raises(PeerError, match=r"^CheckpointNotFoundError: .*none\.ckpt"):
        Peers(["eager"], replace(task, checkpoint=Path("none.ckpt")), tmp_path)


def test_task_line(task, tmp_path):
    raw = json.loads(task.line("eager", tmp_path / "out.png"))
    assert raw["setup"]["checkpoint"] is None
    assert Path(raw["setup"]["bundle"]).is_absolute()
    from export.peers.serve import plan_from

    assert plan_from(raw["plan"]) == task.plan


def test_ratios_are_taken_within_rounds():
    """The machine was half as fast in the second round, for both."""
    found = ratios([[1.0, 1.0], [2.0, 2.0]], [[2.0, 2.0], [4.0, 4.0]])
    assert (found.p50, found.low, found.high) == (0.5, 0.5, 0.5)


def test_psnr(tmp_path):
    Image.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), (10, 20, 31)).save(tmp_path / "b.png")
    assert psnr(tmp_path / "a.png", tmp_path / "a.png") == float("inf")
    assert psnr(tmp_path / "a.png", tmp_path / "b.png") == pytest.approx(48.13 + 4.77, abs=0.01)


def test_a_process_of_no_peer(task, tmp_path):
    with pytest.raises(PeerError, match="nobody"):
        Peer("nobody", task, tmp_path / "out.png")
