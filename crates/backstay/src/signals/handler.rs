//! What runs inside a signal handler, and the calls that put it there. All of the crate's `unsafe` for signals.
//!
//! A handler may interrupt any thread anywhere, so it does nothing but what is async-signal-safe: atomics, `getpid`,
//! `write`, and calling the handler that was there before. `errno` is as it was when it returns.
//!
//! Foreign handlers may come to lie over ours and call it in their turn. To get on top again while we are in such a
//! chain, a second handler of ours is used (another level), and only the topmost one notes: otherwise a signal would be
//! noted twice, or the chain would be a circle. Invariant: level n lies under every level above it.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};

/// How often others may come to lie over us in one chain.
const LEVELS: usize = 4;
/// One past the highest signal number of any Unix.
const NUMBERS: usize = 129;

/// What the handlers know of one signal.
struct Noted {
    /// How often it has arrived since the dispatcher looked.
    arrived: AtomicU32,
    /// How many levels may be in the chain; the topmost of them notes.
    depth: AtomicUsize,
    /// What lies under each level and is called on. Never freed, since a handler may be about to call it.
    under: [AtomicPtr<libc::sigaction>; LEVELS],
}

static NOTED: [Noted; NUMBERS] = [const {
    Noted {
        arrived: AtomicU32::new(0),
        depth: AtomicUsize::new(0),
        under: [const { AtomicPtr::new(ptr::null_mut()) }; LEVELS],
    }
}; NUMBERS];

/// The process whose dispatcher reads what is noted; a forked child is another one, until it takes a signal itself.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// Where a byte wakes that dispatcher.
static WAKE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn handle<const LEVEL: usize>(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the address of this thread's errno, valid while the thread runs.
    let errno = unsafe { &mut *errno_location() };
    let saved = *errno;
    if let Ok(noted) = noted(signal) {
        // SAFETY: getpid has no preconditions and is async-signal-safe.
        let ours = unsafe { libc::getpid() } == OWNER.load(Ordering::SeqCst);
        if ours && noted.depth.load(Ordering::SeqCst) == LEVEL + 1 {
            noted.arrived.fetch_add(1, Ordering::SeqCst);
            // SAFETY: one byte from a static. A full pipe (EAGAIN) wakes as well as a byte more.
            unsafe { libc::write(WAKE.load(Ordering::SeqCst), b"!".as_ptr().cast(), 1) };
        }
        // SAFETY: null, or what `remember` leaked.
        let under = unsafe { noted.under[LEVEL].load(Ordering::SeqCst).as_ref() };
        match under.map_or(libc::SIG_DFL, |under| under.sa_sigaction) {
            libc::SIG_DFL if !ours => die_of(signal),
            libc::SIG_DFL | libc::SIG_IGN => {}
            // SAFETY: the address was installed with SA_SIGINFO, so it is a function of this type; what it is given
            // is what the kernel gave.
            handler if under.is_some_and(|under| under.sa_flags & libc::SA_SIGINFO != 0) => unsafe {
                mem::transmute::<usize, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(handler)(
                    signal, info, context,
                );
            },
            // SAFETY: the address was installed without SA_SIGINFO, so it is a function of this type.
            handler => unsafe { mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal) },
        }
    }
    *errno = saved;
}

/// A forked child in which nobody listens must not become deaf to a signal that would have ended it.
fn die_of(signal: c_int) {
    // SAFETY: a zeroed sigaction with SIG_DFL is the default action; sigaction and raise are async-signal-safe. The
    // signal is blocked until the handler returns, and then delivered.
    unsafe {
        let mut default: libc::sigaction = mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &raw const default, ptr::null_mut());
        libc::raise(signal);
    }
}

fn address(level: usize) -> libc::sighandler_t {
    type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
    const HANDLERS: [Handler; LEVELS] = [handle::<0>, handle::<1>, handle::<2>, handle::<3>];
    HANDLERS[level] as libc::sighandler_t
}

/// Sees to it that one of our handlers lies on top. Nobody else may change the signal meanwhile.
pub(super) fn put(signal: c_int) -> io::Result<()> {
    let noted = noted(signal)?;
    let current = current(signal)?;
    if let Some(level) = level(&current) {
        // Who lay over it, and our levels above that, are gone.
        noted.depth.store(level + 1, Ordering::SeqCst);
        return Ok(());
    }
    let level = noted.depth.load(Ordering::SeqCst);
    if level == LEVELS {
        return Err(io::Error::other("too many handlers lie over one another"));
    }
    // SAFETY: zeroed is an empty action; the fields that matter are set below.
    let mut ours: libc::sigaction = unsafe { mem::zeroed() };
    ours.sa_sigaction = address(level);
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the mask is a valid place.
    unsafe { libc::sigemptyset(&raw mut ours.sa_mask) };

    // Known before ours is in place, so that a signal that arrives in between is called on as well.
    remember(noted, level, &current);
    let mut replaced = current;
    // SAFETY: `handle` is async-signal-safe and lives as long as the process.
    check(unsafe { libc::sigaction(signal, &raw const ours, &raw mut replaced) })?;
    remember(noted, level, &replaced);
    noted.depth.store(level + 1, Ordering::SeqCst);
    Ok(())
}

/// Puts back what lies under our handler, where that is still on top. Nobody else may change the signal meanwhile.
pub(super) fn restore(signal: c_int) -> io::Result<()> {
    let noted = noted(signal)?;
    let Some(level) = level(&current(signal)?) else { return Ok(()) };
    // SAFETY: null, or what `remember` leaked; an action that the system itself gave us.
    check(unsafe { libc::sigaction(signal, noted.under[level].load(Ordering::SeqCst), ptr::null_mut()) })?;
    noted.depth.store(level, Ordering::SeqCst);
    Ok(())
}

fn noted(signal: c_int) -> io::Result<&'static Noted> {
    let noted = usize::try_from(signal).ok().and_then(|number| NOTED.get(number));
    noted.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Whether the system knows the signal and lets it be handled.
pub(super) fn is_catchable(signal: c_int) -> io::Result<()> {
    noted(signal).and(current(signal)).map(drop)
}

fn current(signal: c_int) -> io::Result<libc::sigaction> {
    // SAFETY: a zeroed sigaction is a valid place to be filled.
    let mut action = unsafe { mem::zeroed() };
    // SAFETY: asks only; the place is valid for writing.
    check(unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) })?;
    Ok(action)
}

/// Which of our levels the action is.
fn level(action: &libc::sigaction) -> Option<usize> {
    (0..LEVELS).find(|level| action.sa_sigaction == address(*level))
}

fn remember(noted: &Noted, level: usize, action: &libc::sigaction) {
    // SAFETY: null, or what was leaked here.
    let known = unsafe { noted.under[level].load(Ordering::SeqCst).as_ref() };
    let same = |known: &libc::sigaction| {
        known.sa_sigaction == action.sa_sigaction && known.sa_flags == action.sa_flags && same_mask(known, action)
    };
    if !known.is_some_and(same) {
        noted.under[level].store(Box::leak(Box::new(*action)), Ordering::SeqCst);
    }
}

fn same_mask(one: &libc::sigaction, other: &libc::sigaction) -> bool {
    // SAFETY: both sets were filled by the system.
    let holds = |action: &libc::sigaction, signal| unsafe { libc::sigismember(&raw const action.sa_mask, signal) };
    (1..c_int::try_from(NUMBERS).unwrap_or(c_int::MAX)).all(|signal| holds(one, signal) == holds(other, signal))
}

/// Makes this process the one whose dispatcher is woken through the descriptor `wake`. What is taken was the parent's.
pub(super) fn own(wake: c_int) {
    for (signal, noted) in (0..).zip(&NOTED) {
        if noted.depth.load(Ordering::SeqCst) > 0 {
            let _ = restore(signal);
        }
        noted.arrived.store(0, Ordering::SeqCst);
    }
    WAKE.store(wake, Ordering::SeqCst);
    // SAFETY: getpid has no preconditions.
    OWNER.store(unsafe { libc::getpid() }, Ordering::SeqCst);
}

/// How often the signal has arrived since the last call.
pub(super) fn arrived(signal: c_int) -> u32 {
    noted(signal).map_or(0, |noted| noted.arrived.swap(0, Ordering::SeqCst))
}

/// Ends the process without running what `exit` runs: a destructor may wait for the very callback that hangs.
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn errno_location() -> *mut c_int {
    // SAFETY: no preconditions.
    unsafe {
        #[cfg(any(target_os = "linux", target_os = "emscripten", target_os = "hurd", target_os = "redox"))]
        return libc::__errno_location();
        #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
        return libc::__error();
        #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
        return libc::__errno();
        #[cfg(any(target_os = "solaris", target_os = "illumos"))]
        return libc::___errno();
        #[cfg(target_os = "dragonfly")]
        return libc::__dfly_error();
    }
}
