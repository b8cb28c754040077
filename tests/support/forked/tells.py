"""Says on its output what it is, as JSON, then does what its first argument says."""

from __future__ import annotations

import json
import os
import sys
import threading
import time


def main() -> int:
    files = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    torch = sys.modules.get("torch")
    told = {
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "session": os.getsid(0),
        "words": sys.argv[1:],
        "folder": os.getcwd(),
        "given": os.environ.get("GIVEN"),
        "other": os.environ.get("OTHER"),
        "imported": "colorsys" in sys.modules,
        "loaded": [name for name in sys.modules if name.count(".") < 2],
        "cuda": [torch.cuda.is_initialized(), torch.cuda._is_in_bad_fork()] if torch else [],
        "files": sorted(files),
        "threads": [threading.active_count(), torch.get_num_threads() if torch else 0],
        "path": sys.path[0],
        "drawn": numpy.random.random() if (numpy := sys.modules.get("numpy")) else None,
    }
    print(json.dumps(told))
    sys.stderr.write("said\n")
    match sys.argv[1:]:
        case ["sleep"]:
            time.sleep(60)
        case ["end", code]:
            return int(code)
        case ["raise"]:
            raise RuntimeError("on purpose")
    return 0
