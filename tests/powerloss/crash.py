"""Every prefix of a log of a disk's writes is a moment at which the power may go; each write after the last flush may be missing.

crash.py BASE LOG ACKS CHECKER POINTS SEED WORK: puts POINTS such disks together, lets e2fsck repair each, and the checker look up
what was acknowledged by then. Prints one line `points N lost N acknowledged N failed N`, what went wrong above it.
The log is the kernel's format of dm-log-writes, as qemu's blklogwrites writes it.
"""

import pathlib
import random
import shutil
import struct
import subprocess
import sys

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD = 1, 2, 4
# Where the writer says, past all caches, how many acknowledgements went out: beyond the file system's end.
ACKS_AT = 63 << 20


def entries(path):
    log = open(path, "rb")
    magic, _, count, sector = struct.unpack("<QQQI", log.read(28))
    assert magic == MAGIC, "this is no log of writes"
    at, found = sector, []
    for _ in range(count):
        log.seek(at)
        head = log.read(32)
        if len(head) < 32:
            break
        place, sectors, flags, _ = struct.unpack("<QQQQ", head)
        size = 0 if flags & DISCARD else sectors * sector
        log.seek(at + sector)
        found.append((place * sector, flags, log.read(size)))
        at += sector + size
    return found


def crash(base, writes, last, rng):
    """The disk after the first `last` writes, those after the last flush there or not, and the acknowledgements by then."""
    image, acknowledged = bytearray(base), 0
    flushed = max((i for i in range(last) if writes[i][1] & FLUSH), default=-1)
    for i, (at, flags, data) in enumerate(writes[:last]):
        if data and at == ACKS_AT:
            acknowledged = int(data[:10])
        if i <= flushed or flags & FUA or rng.random() < 0.5:
            image[at : at + len(data)] = data
    return image, acknowledged


def look(image, acknowledged, acks, checker, work):
    """What is wrong with this disk, or nothing."""
    disk, out = work / "crashed", work / "out"
    disk.write_bytes(image)
    repaired = subprocess.run(["e2fsck", "-fy", disk], capture_output=True, timeout=60)
    if repaired.returncode > 2:
        return f"e2fsck ended with code {repaired.returncode}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    subprocess.run(["debugfs", "-R", f"rdump /ledger {out}", disk], capture_output=True, timeout=60, check=True)
    if not (out / "ledger").exists() and acknowledged == 0:
        return None
    checked = subprocess.run(
        [checker, "check", out / "ledger", acks, str(acknowledged)], capture_output=True, text=True, timeout=120
    )
    return None if checked.returncode == 0 else (checked.stdout + checked.stderr).strip()


def main():
    base, log, acks, checker, points, seed, work = sys.argv[1:]
    rng, work = random.Random(int(seed)), pathlib.Path(work)
    base, writes = pathlib.Path(base).read_bytes(), entries(log)
    heard = sum(line.count(" ") == 3 for line in open(acks))
    first = next((i for i, (at, _, data) in enumerate(writes) if data and at == ACKS_AT), len(writes) - 1)
    lost, failed, total = 0, 0, 0
    for point in range(int(points)):
        # One in ten before the first acknowledgement: an unfinished beginning must open too.
        lowest, highest = (1, first) if point % 10 == 0 else (first + 1, len(writes))
        image, acknowledged = crash(base, writes, rng.randint(lowest, highest), rng)
        acknowledged = min(acknowledged, heard)
        total += acknowledged
        wrong = look(image, acknowledged, acks, checker, work)
        if wrong:
            lost += " lost 0 " not in wrong and "checked" in wrong
            failed += 1
            if failed <= 3:
                print(f"{acknowledged} acknowledged: {wrong}")
    print(f"points {points} lost {lost} acknowledged {total} failed {failed} writes {len(writes)}")


main()
