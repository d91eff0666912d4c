import pytest

from engines.trt_messages import Message, advice, failure, meaning, summary


@pytest.mark.parametrize(
    "text",
    [
        "Skipping tactic 0x0000000000000000 due to exception [myelin_graph.h::attachExceptionMsgToGraph] out of memory",
        "Tactic Device request: 17179MB Available: 15109MB. Device memory is insufficient to use tactic.",
        "Detected layernorm nodes in FP16: /down/norm. Running layernorm after self-attention in FP16 may overflow.",
        "  - 12 weights are affected by this issue: Detected subnormal FP16 values.",
        "CUDA lazy loading is not enabled. Enabling it can significantly reduce device memory usage.",
    ],
)
def test_harmless_messages(text):
    assert meaning(text)
    assert "(1 messages)" in summary([Message(severe=False, text=text)])[0]


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("Error Code 10: Internal Error (Could not find any implementation for node /attn.)", "raise --workspace"),
        ("Requested amount of GPU memory (12) could not be allocated: OutOfMemory", "nvidia-smi"),
        ("CUDA initialization failure with error: 35", "release 580"),
        (
            "The engine plan file is not compatible with this version of TensorRT, expecting library version 11",
            "build it",
        ),
        (
            "The engine plan file is generated on an incompatible device, expecting compute 9.0 got 8.9",
            "build it again",
        ),
        ("No space left on device", "free disk space"),
        ("Target GPU SM 70 is not supported by this TensorRT release: SM 7.0", "no code for this GPU"),
        ("The logger passed into createInferBuilder differs from one already registered", "made a logger"),
    ],
)
def test_what_to_do(text, fix):
    assert fix in advice(text)
    assert not meaning(text)
    assert fix in failure([Message(severe=True, text="first"), Message(severe=True, text=text)]).partition(";")[0] + fix


def test_the_summary_keeps_what_is_not_known_once():
    found = [Message(severe=False, text="Skipping tactic 1"), Message(severe=False, text="new")] * 2
    assert summary([*found, Message(severe=True, text="bad")]) == ("tactics were skipped (2 messages)", "new", "bad")
    assert summary([]) == ()


def test_failures_begin_with_what_can_be_helped():
    texts = ["a", "b", "c", "d", "OutOfMemory"]
    told = failure([Message(severe=True, text=text) for text in texts])
    assert told.startswith("OutOfMemory (memory of the GPU ran out")
    assert told.endswith("; a; b")
    assert failure([Message(severe=False, text="only a warning")]) == ""
