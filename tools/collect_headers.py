#!/usr/bin/env python3
"""collect_headers.py FOLDER HEADER...: copies headers, and those of this project that they include, into FOLDER.

Paths are taken from the working folder and kept below FOLDER.
"""

import pathlib
import re
import shutil
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def main(folder, *headers):
    waiting, seen = list(headers), set()
    while waiting:
        header = waiting.pop()
        if header in seen:
            continue
        seen.add(header)
        target = pathlib.Path(folder) / header
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(header, target)
        # What is not a file here is a system library's.
        waiting += [i for i in INCLUDE.findall(target.read_text()) if pathlib.Path(i).is_file()]


if __name__ == "__main__":
    main(*sys.argv[1:])
