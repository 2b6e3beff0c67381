"""An implementation whose import kills the process."""

import os
import signal
import sys

print("loading a library that is not for this machine", file=sys.stderr)
os.kill(os.getpid(), signal.SIGSEGV)
