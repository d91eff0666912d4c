"""Sizes in words, and what is left of a machine's memory: files as the kernel writes them, in a folder of our own."""

import pytest

from engines.errors import SettingsError
from engines.memory import available_memory, format_size, parse_size

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("9000000000", 9_000_000_000),
        ("8GB", 8_000_000_000),
        ("10GiB", 10 * GIB),
        ("10 gib", 10 * GIB),
        (" 1.5GiB ", 3 * GIB // 2),
        ("512MiB", 512 << 20),
        ("640kB", 640_000),
        ("1b", 1),
        ("1TiB", 1 << 40),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "0GiB", "0.1", "-1GiB", "ten", "10G", "10 apples", "GiB", "1e9", "nan", "inf", "1,5GiB", "٣GiB"),
        *("9" * 400, "1.5.2GB", "2000000TiB"),
    ],
)
def test_what_is_not_a_size(text):
    with pytest.raises(SettingsError, match="10GiB, 8GB or 9000000000"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(12, "12 bytes"), (1536, "1.5 KiB"), (640 << 20, "640 MiB"), (17 * GIB // 2, "8.5 GiB"), (1 << 40, "1.0 TiB")],
)
def test_words(size, text):
    assert format_size(size) == text


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:       25165824 kB\nMemFree:  100 kB\nMemAvailable:   20971520 kB\n"}
V2 = "sys/fs/cgroup/"
V1 = "sys/fs/cgroup/memory/"


@pytest.mark.parametrize(
    ("files", "left"),
    [
        pytest.param({}, 20 * GIB, id="no groups"),
        pytest.param({"proc/self/cgroup": "0::/a\n", f"{V2}a/memory.max": "max\n"}, 20 * GIB, id="no limit"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                f"{V2}a/b/memory.max": "max\n",
                f"{V2}a/memory.max": f"{8 * GIB}\n",
                f"{V2}a/memory.current": f"{3 * GIB}\n",
                f"{V2}a/memory.stat": f"anon {GIB}\ninactive_file {GIB}\nactive_file {GIB}\n",
            },
            7 * GIB,
            id="version 2, the parent's limit, without its page cache",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu:/x\n5:memory:/docker/x\n0::/\n",
                f"{V1}memory.limit_in_bytes": f"{4 * GIB}\n",
                f"{V1}memory.usage_in_bytes": f"{GIB}\n",
                f"{V1}memory.stat": f"cache 9\ntotal_inactive_file {GIB // 2}\n",
            },
            7 * GIB // 2,
            id="version 1 in a container, which sees its own group at the top",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:memory:/\n",
                f"{V1}memory.limit_in_bytes": "9223372036854771712\n",
                f"{V1}memory.usage_in_bytes": "1\n",
            },
            20 * GIB,
            id="version 1 without a limit",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/\n",
                f"{V2}memory.max": f"{GIB}\n",
                f"{V2}memory.current": f"{2 * GIB}\n",
            },
            0,
            id="over its limit",
        ),
    ],
)
def test_available_memory(tmp_path, files, left):
    assert available_memory(write(tmp_path, MEMINFO | files)) == left


def test_this_machine(tmp_path):
    assert 1 << 20 < available_memory() < 1 << 50
    assert available_memory(tmp_path) >= available_memory(), "without figures: the whole memory"
