//! The system calls that the standard library lacks, each behind a safe function.
//!
//! One of the two files with unsafe code. Every function states why its call is sound; none keeps a pointer after it
//! returns.
#![allow(unsafe_code, reason = "calls the kernel; each block says why it is sound")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Kinds of namespaces, as `unshare` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Namespaces(libc::c_int);

impl Namespaces {
    pub(super) const USER: Self = Self(libc::CLONE_NEWUSER);
    pub(super) const NET: Self = Self(libc::CLONE_NEWNET);
    pub(super) const MOUNT: Self = Self(libc::CLONE_NEWNS);
    pub(super) const PID: Self = Self(libc::CLONE_NEWPID);

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which side of a fork this is.
pub(super) enum Side {
    /// The new process.
    Child,
    /// The old one, with the new one's number.
    Parent(libc::pid_t),
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Moves the calling thread into new namespaces.
pub(super) fn unshare(namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: takes no pointer; changes only the calling thread's namespaces.
    check(unsafe { libc::unshare(namespaces.0) }).map(drop)
}

/// Moves the calling thread into an existing namespace.
pub(super) fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointer; the descriptor is borrowed and so open.
    check(unsafe { libc::setns(namespace.as_raw_fd(), 0) }).map(drop)
}

/// The caller's effective user and group.
pub(super) fn user_and_group() -> (u32, u32) {
    // SAFETY: both always succeed and touch no memory of ours.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Splits the process in two. The process must have one thread: the child inherits only the calling one, and locks held
/// by others would stay locked for ever.
pub(super) fn fork_single_threaded() -> io::Result<Side> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("{threads} threads are running where one is allowed")));
    }
    // SAFETY: the process has a single thread, just checked, so the child may go on running any code.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Side::Child),
        child => Ok(Side::Parent(child)),
    }
}

/// The kernel kills the calling process when the thread that made it ends.
pub(super) fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes an integer.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// Waits until a child ends: its exit status, or 128 and the signal's number.
pub(super) fn wait_for(child: libc::pid_t) -> io::Result<u8> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call, which writes one integer into it.
        match check(unsafe { libc::waitpid(child, &raw mut status, 0) }) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if libc::WIFSIGNALED(status) {
        return Ok((128 + libc::WTERMSIG(status)) as u8);
    }
    Ok(libc::WEXITSTATUS(status) as u8)
}

/// Waits as [`wait_for`] does, as a program that waits for another in the foreground: the terminal's interrupt and quit
/// go to both, and are the other's affair; sent by a process to this one alone they end the child.
pub(super) fn wait_in_foreground(child: libc::pid_t) -> io::Result<u8> {
    // SAFETY: a sigset_t is plain data, for which all zeroes is a value; each call writes only into it.
    let signals = unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGCHLD] {
            libc::sigaddset(&raw mut signals, signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut()))?;
        signals
    };
    loop {
        // The child's end shows first: it may have come before its signal was blocked.
        // SAFETY: a siginfo_t is plain data; `waitid` writes only into it, and leaves the child to be waited for.
        let ended = unsafe {
            let mut about: libc::siginfo_t = std::mem::zeroed();
            let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            check(libc::waitid(libc::P_PID, child.cast_unsigned(), &raw mut about, options))?;
            about.si_pid() != 0
        };
        if ended {
            return wait_for(child);
        }
        // SAFETY: both outlive the call, which writes only into the second.
        let (signal, sent_by_process) = unsafe {
            let mut about: libc::siginfo_t = std::mem::zeroed();
            let signal = libc::sigwaitinfo(&raw const signals, &raw mut about);
            (signal, about.si_code == libc::SI_USER)
        };
        if sent_by_process && [libc::SIGINT, libc::SIGQUIT].contains(&signal) {
            // SAFETY: takes integers only; the child is ours and not yet waited for.
            check(unsafe { libc::kill(child, libc::SIGKILL) })?;
            wait_for(child)?;
            return Ok((128 + signal) as u8);
        }
    }
}

/// Timers of this thread fire as exactly as the kernel can, and not up to 50 µs late.
pub(super) fn sharpen_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes an integer; 1 ns is the least.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// This thread goes before ordinary ones where the system allows it (real-time priority, else a better nice value).
pub(super) fn go_first() {
    let least = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 means the calling thread; the parameter outlives the call, which only reads it.
    let real_time = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const least) == 0 };
    if !real_time {
        // SAFETY: 0 means the calling thread; takes integers only.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
    }
}

/// What to mount.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mount<'a> {
    /// Nothing new: mounts made from now on stay in this namespace.
    Private,
    /// An empty file system in memory.
    Memory,
    /// A file or directory that is elsewhere already.
    Bind(&'a str),
}

/// Mounts at a place, in the calling thread's mount namespace: mount(2).
pub(super) fn mount(what: Mount<'_>, target: &str) -> io::Result<()> {
    let (source, kind, flags) = match what {
        Mount::Private => ("none", "none", libc::MS_REC | libc::MS_PRIVATE),
        Mount::Memory => ("none", "tmpfs", libc::MS_NOSUID | libc::MS_NODEV),
        Mount::Bind(source) => (source, "none", libc::MS_BIND),
    };
    let (source, kind, target) = (CString::new(source)?, CString::new(kind)?, CString::new(target)?);
    // SAFETY: all strings end in NUL and outlive the call; no data are given.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
        .map(drop)
}

/// Waits until one of the descriptors is readable or the time is over; which are readable.
pub(super) fn wait_readable<const N: usize>(
    descriptors: [BorrowedFd<'_>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled =
        descriptors.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the array and the timeout outlive the call; the mask is not used.
    let result = unsafe { libc::ppoll(polled.as_mut_ptr(), N as libc::nfds_t, timeout, std::ptr::null()) };
    match check(result) {
        Ok(_) => Ok(polled.map(|fd| fd.revents != 0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        Err(error) => Err(error),
    }
}

/// Makes the calling thread's network namespace a TUN device of this name, without a packet header in front.
pub(super) fn open_tun(name: &str) -> io::Result<OwnedFd> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut request = request_for(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    set_nonblocking(file.as_raw_fd())?;
    Ok(file.into())
}

/// Switches one of the device's offloads off (`ETHTOOL_S…`), in the calling thread's network namespace.
pub(super) fn switch_off(socket: BorrowedFd<'_>, device: &str, command: u32) -> io::Result<()> {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value { command, data: 0 };
    let mut request = request_for(device);
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads the ifreq and, through its pointer, a `struct ethtool_value`; both outlive the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) }).map(drop)
}

fn request_for(device: &str) -> libc::ifreq {
    // SAFETY: an ifreq is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    request
}

/// Index of a device in the calling thread's network namespace.
pub(super) fn index_of(device: &str) -> io::Result<u32> {
    let name = CString::new(device)?;
    // SAFETY: the name ends in NUL and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// A packet socket that takes every frame of one device of the calling thread's network namespace.
pub(super) fn open_packet_socket(device: &str) -> io::Result<OwnedFd> {
    let kinds = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let every = i32::from((libc::ETH_P_ALL as u16).to_be());
    // SAFETY: takes integers only.
    let raw = check(unsafe { libc::socket(libc::AF_PACKET, kinds, every) })?;
    // SAFETY: the descriptor was just made and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let index = index_of(device)?;
    // SAFETY: a sockaddr_ll is plain data, for which all zeroes is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is a whole sockaddr_ll, and its length is given.
    check(unsafe { libc::bind(raw, (&raw const address).cast(), length) })?;
    let buffer: libc::c_int = 8 << 20;
    let ignore_outgoing: libc::c_int = 1;
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, ignore_outgoing)?;
    // The forced form needs a privilege over the whole machine; the other is cut to its limit.
    if set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, buffer).is_err() {
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, buffer)?;
    }
    Ok(socket)
}

fn set_option(socket: &OwnedFd, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is a whole c_int, and its length is given.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) })
        .map(drop)
}

fn set_nonblocking(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: both calls take integers only; the descriptor is the caller's own.
    let flags = check(unsafe { libc::fcntl(descriptor, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Reads once into the buffer; how many bytes came.
pub(super) fn read(descriptor: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is ours for the call, and its length is given.
    let read = unsafe { libc::read(descriptor.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(read as usize) }
}

/// Writes once from the buffer.
pub(super) fn write(descriptor: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer is ours for the call, and its length is given.
    let written = unsafe { libc::write(descriptor.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(written as usize) }
}
