"""Runs a program in a pseudo-terminal: terminal.py COLUMNS ROWS PROGRAM ARGS...

Standard input: a JSON object a line, {"send": text} or {"resize": [columns, rows]}.
Standard output: a JSON object a line, {"output": text}, and at the end {"code": n} or {"signal": n}.
"""

import codecs
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios


def resize(fd, columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def tell(**what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


columns, rows, *command = sys.argv[1:]
pid, fd = pty.fork()
if pid == 0:
    resize(0, int(columns), int(rows))
    os.execvp(command[0], command)

decoder = codecs.getincrementaldecoder("utf-8")("replace")
commands = b""
open_input = True
while True:
    ready, _, _ = select.select([fd] + ([0] if open_input else []), [], [])
    if 0 in ready:
        chunk = os.read(0, 65536)
        if not chunk:
            # Whoever drove this has gone: so does the terminal.
            open_input = False
            os.kill(pid, signal.SIGKILL)
        commands += chunk
        *lines, commands = commands.split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "send" in order:
                os.write(fd, order["send"].encode())
            if "resize" in order:
                resize(fd, *order["resize"])
    if fd in ready:
        try:
            output = os.read(fd, 65536)
        except OSError:  # The last one on the other side has gone.
            break
        if not output:
            break
        tell(output=decoder.decode(output))

_, status = os.waitpid(pid, 0)
if os.WIFSIGNALED(status):
    tell(signal=os.WTERMSIG(status))
else:
    tell(code=os.WEXITSTATUS(status))
