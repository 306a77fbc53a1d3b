# Waits until the tests end, then ends the server in the given directory and removes the directory.
trap '' INT TERM HUP
read -r _
home=$1
pid=$(head -n 1 "$home/data/postmaster.pid" 2>/dev/null)
# After a kill, the process id in the file may belong to another process.
ours() { [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$home/data" ]; }
if ours; then
  # The server may be frozen.
  kill -CONT "$pid" $(ps -o pid= --ppid "$pid")
  kill -QUIT "$pid"
  tries=0
  while ours && [ $tries -lt 200 ]; do
    sleep 0.05
    tries=$((tries + 1))
  done
  if ours; then kill -KILL "$pid" $(ps -o pid= --ppid "$pid"); fi
fi
# A killed server leaves its segment of shared memory.
segment=$(sed -n '7s/.* //p' "$home/data/postmaster.pid" 2>/dev/null)
if [ -n "$segment" ]; then ipcrm -m "$segment" 2>/dev/null; fi
rm -rf "$home"
