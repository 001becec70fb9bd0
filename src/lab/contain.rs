//! A process tree of its own: whatever happens to the laboratory, nothing of it stays.
//!
//! The caller splits in two before it has any thread. The child is the first process of a new process namespace (and of
//! a user namespace where root is missing): when it ends, the kernel ends everything in it. It dies with its parent.

use std::io;
use std::os::fd::AsFd;

use super::server::end_with;
use super::sys::{self, Namespaces, Side};

/// Why there is no laboratory on this machine.
#[derive(Debug, thiserror::Error)]
pub enum ContainError {
    /// Neither root nor user namespaces.
    #[error(
        "the laboratory needs root or unprivileged user namespaces, and this system refuses both ({0}); run it as root, \
         or allow them (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0, \
         kernel.apparmor_restrict_unprivileged_userns=0; in a container: --cap-add SYS_ADMIN,NET_ADMIN or --privileged)"
    )]
    Refused(io::Error),
    /// Something else went wrong.
    #[error("cannot {0}")]
    Step(&'static str, #[source] io::Error),
}

/// How the terminal's interrupt is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// It ends everything.
    Ends,
    /// From the terminal it is the inner program's affair, and everything ends when that does.
    Inner,
}

/// The exit status that says the laboratory itself failed (as `timeout` and `env` have it).
pub const FAILED: u8 = 125;

/// Runs `inside` in a process tree of its own and gives back the exit status it ends with. Must be called before any
/// thread is started.
pub fn contain(interrupt: Interrupt, inside: impl FnOnce() -> u8) -> Result<u8, ContainError> {
    let (user, group) = sys::user_and_group();
    let own = Namespaces::PID.and(Namespaces::MOUNT).and(Namespaces::NET);
    if let Err(error) = sys::unshare(own) {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return Err(ContainError::Refused(error));
        }
        sys::unshare(Namespaces::USER).map_err(ContainError::Refused)?;
        become_root_inside(user, group)
            .map_err(|source| ContainError::Step("become root in the namespace", source))?;
        sys::unshare(own).map_err(ContainError::Refused)?;
    }
    let (watched, held) = io::pipe().map_err(|source| ContainError::Step("make a pipe", source))?;
    match sys::fork_single_threaded()
        .map_err(|source| ContainError::Step("start the laboratory's process", source))?
    {
        Side::Child => {
            drop(held);
            let alive = sys::die_with_parent().and_then(|()| end_with(watched.as_fd()));
            let status = if alive.is_ok() { inside() } else { FAILED };
            // Not back through `main`, which is the parent's: one process answers for the command.
            std::process::exit(i32::from(status))
        }
        Side::Parent(child) => {
            drop(watched);
            let status = match interrupt {
                Interrupt::Ends => sys::wait_for(child),
                Interrupt::Inner => sys::wait_in_foreground(child),
            };
            status.map_err(|source| ContainError::Step("wait for the laboratory", source))
        }
    }
}

/// Maps the caller to root in its new user namespace (`user_namespaces`(7)).
fn become_root_inside(user: u32, group: u32) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}
