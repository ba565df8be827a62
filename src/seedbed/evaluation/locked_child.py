"""Locks its own process down and then runs a program that nobody has read: the child of `locked_process`.

It is a script of the standard library alone, started by `python -I -S -B`. Its input is a line (the word
that means "passed", the user id, the parent's process id, the limits of memory and CPU seconds) and the
program. Its output is `locked`, and then that word or "!" and the exception. Where a layer of the lock fails,
its output is `refused` with the reason, and nothing runs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable

# System calls as name:x86_64:aarch64; 0 is a call that the processor does not have.
USED = "capset:126:91 prctl:157:167 seccomp:317:277 landlock_create_ruleset:444:444"
USED += " landlock_add_rule:445:445 landlock_restrict_self:446:446"
REFUSED = (
    # the network
    "socket:41:198 socketpair:53:199 bind:49:200 listen:50:201 accept:43:202 accept4:288:242 connect:42:203"
    " sendto:44:206 sendmsg:46:211 sendmmsg:307:269"
    # other programs and processes, their memory, signals and priorities
    " fork:57:0 vfork:58:0 execve:59:221 execveat:322:281 ptrace:101:117 kcmp:312:272 tkill:200:130"
    " process_vm_readv:310:270 process_vm_writev:311:271 setpriority:141:140 ioprio_set:251:30"
    " sched_setparam:142:118 sched_setscheduler:144:119 sched_setaffinity:203:122 sched_setattr:314:274"
    " migrate_pages:256:238 move_pages:279:239"
    # the kernel
    " unshare:272:97 setns:308:268 mount:165:40 umount2:166:39 pivot_root:155:41 chroot:161:51 bpf:321:280"
    " perf_event_open:298:241 userfaultfd:323:282 keyctl:250:219 add_key:248:217 request_key:249:218"
    " personality:135:92 modify_ldt:154:0 name_to_handle_at:303:264 open_by_handle_at:304:265"
    # memory that no limit counts and that remains afterwards
    " memfd_create:319:279 shmget:29:194 shmat:30:196 semget:64:190 msgget:68:186 mq_open:240:180"
    # what Landlock does not restrict: the attributes of files
    " chmod:90:0 fchmod:91:52 fchmodat:268:53 chown:92:0 fchown:93:55 lchown:94:0 fchownat:260:54 utime:132:0"
    " utimes:235:0 futimesat:261:0 utimensat:280:88 setxattr:188:5 lsetxattr:189:6 fsetxattr:190:7"
    " removexattr:197:14 lremovexattr:198:15 fremovexattr:199:16 truncate:76:45 fallocate:285:47"
    " link:86:0 linkat:265:37 mknod:133:0 mknodat:259:33"
)
BY_ARGUMENT = "clone:56:220 kill:62:129 tgkill:234:131 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240"
BY_ARGUMENT += " prlimit64:302:261 fcntl:72:25"
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# From here on the numbers are those of every processor. All are refused but close_range, faccessat2 and
# futex_waitv: C libraries take ENOSYS for an older kernel. clone3 is one of them: its flags are in memory.
FIRST_NEW, ALLOWED_NEW = 424, (436, 439, 449)
ALLOW, KILL, REFUSE, UNKNOWN = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
LOAD, EQUAL, AT_LEAST, HAS_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of BPF
CLONE_THREAD = 0x10000
NEW_USER, NEW_NET_AND_IPC = 0x10000000, 0x40000000 | 0x08000000
NO_NEW_PRIVILEGES, DUMPABLE, PARENT_DEATH_SIGNAL = 38, 4, 1

# Landlock's rights to files (linux/landlock.h).
READ_FILE, READ_FOLDER = 1 << 2, 1 << 3
WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12 | 1 << 13 | 1 << 14
OF_A_FILE = READ_FILE | 1 << 1 | 1 << 14
NUM_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights a version knows; 16 from the fifth on
READABLE = (
    "/usr/lib /usr/lib64 /usr/local/lib /lib /lib64 /usr/share/zoneinfo /etc/localtime /etc/ld.so.cache"
)
READABLE += " /dev/zero /dev/random /dev/urandom"

MAX_FILE_BYTES, MAX_OPEN_FILES, MAX_THREADS = 16 << 20, 32, 16
# Imported before the lock where the user id of the program may not reach them afterwards.
COMMON = "math re collections itertools functools typing string heapq bisect random json datetime dataclasses"
COMMON += " copy operator statistics decimal fractions"
LIBC = ctypes.CDLL(None, use_errno=True)


def numbers(table: str) -> dict[str, int]:
    """The numbers of system calls on this processor."""
    machine = os.uname().machine
    if machine not in AUDIT_ARCH or sys.maxsize < 1 << 32:
        raise OSError(f"the processor is {machine}; allowed: 64-bit {', '.join(AUDIT_ARCH)}")
    rows = (row.split(":") for row in table.split())
    return {name: int(arm if machine == "aarch64" else x86) for name, x86, arm in rows}


def call(name: str, *arguments: int) -> int:
    """Make a system call; the arguments are numbers and addresses."""
    number = numbers(f"{USED} {REFUSED}")[name]
    result = int(LIBC.syscall(*map(ctypes.c_long, (number, *arguments))))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


def address(data: bytes) -> tuple[int, object]:
    """The address of a copy of the data, and the copy, which must live as long as the address is used."""
    buffer = ctypes.create_string_buffer(data, len(data))
    return ctypes.addressof(buffer), buffer


def seccomp_filter() -> bytes:
    """The BPF program that refuses system calls to this process."""

    def step(code: int, value: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, jump_true, jump_false, value)

    def unless(code: int, value: int, action: int) -> list[bytes]:
        """Return the action where the comparison holds, else continue."""
        return [step(code, value, 0, 1), step(RETURN, action)]

    def by_argument(name: str, index: int, code: int, values: tuple[int, ...], allow_found: bool) -> None:
        """Decide a system call by whether one of its arguments compares with one of the values."""
        found, other = (ALLOW, REFUSE) if allow_found else (REFUSE, ALLOW)
        block = [step(LOAD, 16 + 8 * index)]  # the lower half: process ids, flags and commands are 32 bits
        block += [part for value in values for part in unless(code, value, found)] + [step(RETURN, other)]
        program.extend([step(EQUAL, known[name], 0, len(block)), *block])

    program = [step(LOAD, 4), step(EQUAL, AUDIT_ARCH[os.uname().machine], 1, 0), step(RETURN, KILL)]
    program += [step(LOAD, 0), *unless(AT_LEAST, 1 << 30, KILL)]  # 2 ** 30 and more: x32
    for number in ALLOWED_NEW:
        program += unless(EQUAL, number, ALLOW)
    program += unless(AT_LEAST, FIRST_NEW, UNKNOWN)
    for number in filter(None, numbers(REFUSED).values()):
        program += unless(EQUAL, number, REFUSE)
    known = numbers(f"{USED} {BY_ARGUMENT}")
    by_argument("clone", 0, HAS_BIT, (CLONE_THREAD,), True)
    for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
        by_argument(name, 0, EQUAL, (os.getpid(),), True)
    by_argument("prlimit64", 0, EQUAL, (0, os.getpid()), True)
    by_argument("prctl", 0, EQUAL, (PARENT_DEATH_SIGNAL,), False)
    by_argument("fcntl", 1, EQUAL, (8, 10, 15), False)  # a signal to another process at input
    return b"".join([*program, step(RETURN, ALLOW)])


def landlock_rules() -> int:
    """A descriptor of Landlock's rules: read Python, write the current folder; -1 on a kernel without it."""
    try:
        version = call("landlock_create_ruleset", 0, 0, 1)
    except OSError:
        return -1
    all_rights = (1 << NUM_RIGHTS.get(version, 16)) - 1
    net, signals = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    pointer, _kept = address(struct.pack("QQQ", all_rights, net, signals))
    rules = call("landlock_create_ruleset", pointer, 24, 0)
    readable = [*READABLE.split(), os.path.join(sys.base_prefix, "lib"), *sys.path]
    places = dict.fromkeys(readable, READ_FILE | READ_FOLDER)
    places["/dev/null"] = READ_FILE | WRITE
    places["."] = READ_FILE | READ_FOLDER | WRITE
    for place, rights in places.items():
        if os.path.exists(place):
            rights &= all_rights if os.path.isdir(place) else all_rights & OF_A_FILE
            folder = os.open(place, os.O_PATH)
            pointer, _kept = address(struct.pack("=Qi", rights, folder))
            call("landlock_add_rule", rules, 1, pointer, 0)
            os.close(folder)
    return rules


def take_own_user(uid: int) -> None:
    """Become the user, or for 0 one of a new namespace, without any capability."""
    if uid:
        LIBC.unshare(NEW_NET_AND_IPC)  # a second bound to the network: the filter is the first
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    else:
        # No id is mapped: the capabilities that come with a user namespace hold for no file.
        call("unshare", NEW_USER)
        LIBC.unshare(NEW_NET_AND_IPC)
    (header, _kept), (none, _kept_too) = address(struct.pack("=Ii", 0x20080522, 0)), address(bytes(24))
    call("capset", header, none)


def keep_modules(folder: int, library: str) -> None:
    """Import from an open folder where the new user cannot reach its path, such as one in another's home."""
    if os.access(library, os.R_OK | os.X_OK):
        os.close(folder)
        return
    place = f"/proc/self/fd/{folder}"
    for paths in (sys.path, *(getattr(module, "__path__", []) for module in sys.modules.values())):
        paths[:] = [path.replace(library, place, 1) for path in paths]
    sys.path_importer_cache.clear()


def lock(uid: int, parent: int, memory_bytes: int, cpu_seconds: int) -> None:
    """Take every layer of the lock, and check it.

    Errors: OSError where a layer is not available.
    """
    rules, library = landlock_rules(), os.path.dirname(os.__file__)
    if rules < 0 and not uid:
        raise OSError("without root it needs Landlock, which this kernel does not have (Linux 5.13 or newer)")
    if rules < 0:
        for name in COMMON.split():
            __import__(name)
    folder = os.open(library, os.O_PATH)
    take_own_user(uid)
    limits = {resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_CPU: cpu_seconds, resource.RLIMIT_CORE: 0}
    limits |= {resource.RLIMIT_FSIZE: MAX_FILE_BYTES, resource.RLIMIT_NOFILE: MAX_OPEN_FILES}
    for kind, limit in (limits | {resource.RLIMIT_NPROC: MAX_THREADS, resource.RLIMIT_MEMLOCK: 0}).items():
        resource.setrlimit(kind, (limit, limit))
    call("prctl", PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # a new user id would have cleared it
    if os.getppid() != parent:
        raise OSError("the parent process has ended")
    call("prctl", DUMPABLE, 0, 0, 0, 0)  # no program of the system that collects cores is started
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if rules >= 0:
        call("landlock_restrict_self", rules, 0)
        os.close(rules)
        keep_modules(folder, library)
    else:
        os.close(folder)  # from it, a path upwards would lead to files that no path from the root reaches
    code = seccomp_filter()
    pointer, _kept = address(code)
    pointer, _kept_too = address(struct.pack("HxxxxxxQ", len(code) // 8, pointer))
    call("seccomp", 1, 0, pointer)
    check(uid, rules >= 0)


def check(uid: int, has_landlock: bool) -> None:
    """Try one harmless thing that each layer must refuse."""
    trials: dict[str, Callable[[], object]] = {
        "seccomp": lambda: call("socket", 1, 1, 0),
        "the user id": lambda: os.setuid(0),
    }
    if has_landlock:
        trials["Landlock"] = lambda: os.listdir("/")
    for name, trial in trials.items():
        try:
            trial()
        except OSError:
            continue
        raise OSError(f"a layer has no effect: {name}")
    if uid and os.getresuid() != (uid, uid, uid):
        raise OSError("the user id was not changed")


def run(program: bytes) -> str:
    """Run the program to its end -> "" or the exception that ended it."""
    answer = type(sys)("answer")
    sys.modules["answer"] = answer  # dataclasses and pickle look up the module of a class
    try:
        source = program.decode("utf-8", "surrogatepass")
        exec(compile(source, "<answer>", "exec", dont_inherit=True), answer.__dict__)
        return ""
    except BaseException as error:
        name = "!" + type(error).__name__[:200]
        try:
            return f"{name}: {str(error)[:1000]}"
        except BaseException:
            return name


def main() -> None:
    """Read the task from the input, lock, run, and write the result."""
    first, _, program = sys.stdin.buffer.read().partition(b"\n")
    passed, *settings = first.split()
    result, null = os.dup(1), os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the parent started it with SIGINT blocked
    write, end = os.write, os._exit
    try:
        uid, parent, memory_bytes, cpu_seconds = map(int, settings)
        lock(uid, parent, memory_bytes, cpu_seconds)
    except Exception as error:
        write(result, f"refused {error}".encode())
        end(1)
    write(result, b"locked\n")
    write(result, run(program).encode("utf-8", "backslashreplace") or passed)
    end(0)


if __name__ == "__main__":
    main()
