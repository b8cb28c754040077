"""Starts a thread when it is imported, as some libraries do: what has imported it must not fork."""

import threading
import time

threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
