"""Times the readers of large dumps: a raw MedDialog, and Reddit comments with their submissions.

    python -m benchmarks.formats                   # 3,000,000 dialogues (1.3 GB) and 500,000 comments
    python -m benchmarks.formats --quick

The files are synthetic, in the published layouts, in a temporary folder; the Reddit dump is packed with zstandard. Each
is read once, in this process; processor seconds tell the speed where other programs run beside it. The growth of memory
is that of the process from a twentieth of the rows to the end. Ends with one line of JSON.
"""

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import zstandard
from absl import app, flags

from data_pipeline.corpora import Columns, Refusals, formats

_DIALOGUES = flags.DEFINE_integer("num_dialogues", 3_000_000, "Dialogues of the MedDialog.", lower_bound=10)
_COMMENTS = flags.DEFINE_integer("num_comments", 500_000, "Comments of the Reddit dump.", lower_bound=10)
_QUICK = flags.DEFINE_bool("quick", False, "A hundredth of both.")
_PARTS = 1_000  # rows that are written at once

_DIALOGUE = """id={0}
https://forum.example/qa/{0}/dry-cough-at-night

Description
Dry cough at night for a week. Should I worry?

Dialogue
Patient:
Hello doctor, I am {0}, and have had a dry cough at night for a week. No fever. I am 34 and do not smoke.
Doctor:
Hello. A dry cough after a cold can last three weeks. Honey and fluids may ease it. See a doctor if you cough blood.
Patient:
Thank you.
Doctor:
You are welcome. Get well soon.

"""
_OTHER_FIELDS = {
    "author": "someone", "author_flair_css_class": None, "author_flair_text": "This user has not yet been verified.",
    "author_fullname": "t2_abcdef", "controversiality": 0, "created_utc": 1560000000, "distinguished": None,
    "gilded": 0, "gildings": {}, "is_submitter": False, "no_follow": True, "permalink": "/r/AskDocs/comments/x/y/z/",
    "retrieved_on": 1570000000, "send_replies": True, "stickied": False, "subreddit": "AskDocs",
    "subreddit_id": "t5_2xtuc", "all_awardings": [], "associated_award": None, "awarders": [], "collapsed": False,
    "collapsed_reason": None, "locked": False, "score": 3, "total_awards_received": 0,
}  # fmt: skip


def _comment(number: int) -> str:
    """Returns a comment; every second one answers the submission, the others a comment."""
    submission = f"t3_{number // 10:x}"
    parent = submission if number % 2 else f"t1_{number:x}"
    body = f"Not a doctor, but {number} times honey and fluids helped me. See someone if you get short of breath. " * 3
    return json.dumps({"id": f"{number:x}", "link_id": submission, "parent_id": parent, "body": body} | _OTHER_FIELDS)


def _submission(number: int) -> str:
    text = f"A dry cough for {number} days now, no fever. What helps? " * 5
    return json.dumps({"id": f"{number:x}", "title": "Dry cough at night", "selftext": text} | _OTHER_FIELDS)


def _parts(row: Callable[[int], str], count: int) -> Iterator[bytes]:
    for start in range(0, count, _PARTS):
        yield "".join(map(row, range(start, min(start + _PARTS, count)))).encode()


def _packed(path: str, row: Callable[[int], str], count: int) -> int:
    """Writes a dump with a window of 128 MiB; returns its bytes, unpacked."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True)
    packer, size = zstandard.ZstdCompressor(compression_params=parameters), 0
    with open(path, "wb") as file, packer.stream_writer(file) as writer:
        for part in _parts(lambda number: row(number) + "\n", count):
            writer.write(part)
            size += len(part)
    return size


def _measured(path: str, num_bytes: int, num_lines: int) -> dict[str, Any]:
    """Reads all rows of a file; returns speed and memory."""
    known = formats.find(path, Columns(), "pairs")
    rows, early, start, own_start = 0, 0, time.perf_counter(), time.process_time()
    for rows, _ in enumerate(known.read["pairs"](path, Columns(), Refusals()), 1):
        if rows == num_lines // 20:
            early = _peak_mib()
    seconds, own_seconds = time.perf_counter() - start, time.process_time() - own_start
    return {
        "format": known.name,
        "rows": rows,
        "seconds": round(seconds, 1),
        "processor_seconds": round(own_seconds, 1),
        "megabytes_per_second": round(num_bytes / seconds / 1e6, 1),
        "lines_per_second": round(num_lines / seconds),
        "peak_mib": round(_peak_mib()),
        "growth_mib": round(_peak_mib() - early),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: list[str]) -> None:
    """Runs the benchmark."""
    del argv
    share = 100 if _QUICK.value else 1
    dialogues, comments = _DIALOGUES.value // share, _COMMENTS.value // share
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "meddialog.txt")
        with open(path, "wb") as file:
            file.writelines(_parts(_DIALOGUE.format, dialogues))
        results = [_measured(path, os.path.getsize(path), dialogues)]
        os.remove(path)
        path = os.path.join(folder, "AskDocs_comments.zst")
        submissions = os.path.join(folder, "AskDocs_submissions.zst")
        size = _packed(path, _comment, comments) + _packed(submissions, _submission, comments // 10)
        results.append(_measured(path, size, comments + comments // 10))
    results[0].pop("lines_per_second")
    for result in results:
        print(", ".join(f"{name}: {value}" for name, value in result.items()))
    print(json.dumps({"benchmark": "formats", "results": results}))


if __name__ == "__main__":
    app.run(main)
