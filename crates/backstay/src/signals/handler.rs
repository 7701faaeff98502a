//! The signal handler, and the crate's system calls for signals.
//!
//! A handler may interrupt any thread anywhere, so it does only what is async-signal-safe: atomics, `getpid`,
//! `sigaction`, `write`, `kill`, and calling the previous handler. It restores `errno`. The protocol between handlers
//! and the code that installs and uninstalls them is that of [`chain`](super::chain).
//!
//! # Memory ordering
//! `SeqCst`, as in [`chain`](super::chain). `CALLERS` is relaxed: only a thread and its own signal handlers share it.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};

use libc::{c_int, c_void, siginfo_t};

use super::chain::{Chain, Disposition, MAX_COPIES};
use crate::process::this_process;

/// One past the highest signal number of any Unix.
const NUMBERS: usize = 129;

static CHAINS: [Chain<libc::sigaction>; NUMBERS] = [const { Chain::new() }; NUMBERS];

/// The number of the process whose dispatcher reads the counts. A forked child becomes it when it subscribes itself.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// The process id of that process: a child of `vfork` shares the parent's memory, and with it the number above.
static OWNER_ID: AtomicI32 = AtomicI32::new(0);
/// The descriptor through which a byte wakes the dispatcher.
static WAKE: AtomicI32 = AtomicI32::new(-1);

thread_local! {
    /// For each signal, one more than the copy of our handler that is calling the previous one in this thread, or 0. It
    /// has no destructor, and is not used before there is a second copy: in a shared library that is loaded at run
    /// time, the first use may allocate.
    static CALLERS: [AtomicU8; NUMBERS] = const { [const { AtomicU8::new(0) }; NUMBERS] };
}

extern "C" fn handle<const COPY: usize>(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = errno_location();
    // SAFETY: the address of this thread's errno, valid while the thread runs.
    let saved = unsafe { errno.read() };
    if let Ok(chain) = chain(signal) {
        handle_with::<COPY>(chain, signal, info, context);
    }
    // SAFETY: the address of this thread's errno, valid while the thread runs.
    unsafe { errno.write(saved) };
}

fn handle_with<const COPY: usize>(
    chain: &Chain<libc::sigaction>,
    signal: c_int,
    info: *mut siginfo_t,
    context: *mut c_void,
) {
    // SAFETY: getpid has no preconditions and is async-signal-safe.
    let is_owner = || unsafe { libc::getpid() } == OWNER_ID.load(Ordering::SeqCst);
    let ours = this_process() == OWNER.load(Ordering::SeqCst) && is_owner();
    let caller = chain.is_nested().then(|| caller(signal)).flatten();
    let first = caller.is_none_or(|caller| caller <= COPY);
    let counted = ours && first && chain.count_arrival();
    if counted {
        // SAFETY: one byte from a static. If the pipe is full (EAGAIN), the dispatcher wakes all the same.
        unsafe { libc::write(WAKE.load(Ordering::SeqCst), b"!".as_ptr().cast(), 1) };
    }
    let previous = chain.previous(COPY);
    match previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction) {
        libc::SIG_DFL if first && !counted => reraise_by_default::<COPY>(chain, signal, ours),
        libc::SIG_DFL | libc::SIG_IGN => {}
        handler => {
            let before = (COPY > 0).then(|| set_caller(signal, Some(COPY)));
            call(
                handler,
                previous.is_some_and(|previous| previous.sa_flags & libc::SA_SIGINFO != 0),
                signal,
                info,
                context,
            );
            if let Some(before) = before {
                set_caller(signal, before);
            }
        }
    }
}

fn call(handler: libc::sighandler_t, with_info: bool, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    if with_info {
        // SAFETY: the address was installed with SA_SIGINFO, so it is a function of this type; the arguments come from
        // the kernel.
        unsafe {
            mem::transmute::<usize, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(handler)(signal, info, context);
        }
    } else {
        // SAFETY: the address was installed without SA_SIGINFO, so it is a function of this type.
        unsafe { mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal) }
    }
}

/// Returns the copy of our handler that has called this one in this thread, if one has.
fn caller(signal: c_int) -> Option<usize> {
    let index = usize::try_from(signal).ok()?;
    CALLERS.with(|callers| usize::from(callers.get(index)?.load(Ordering::Relaxed)).checked_sub(1))
}

/// Sets the calling copy, and returns the one before.
fn set_caller(signal: c_int, copy: Option<usize>) -> Option<usize> {
    let index = usize::try_from(signal).ok()?;
    let value = copy.map_or(0, |copy| u8::try_from(copy + 1).unwrap_or(u8::MAX));
    CALLERS.with(|callers| usize::from(callers.get(index)?.swap(value, Ordering::Relaxed)).checked_sub(1))
}

/// Gives a signal that does not count and has no previous handler the effect that it has without us. Needed in a forked
/// child, which the signal could not end otherwise, and if our handler was uninstalled while it was about to run.
fn reraise_by_default<const COPY: usize>(chain: &Chain<libc::sigaction>, signal: c_int, ours: bool) {
    if chain.needs_reraise(&Kernel(signal), COPY, ours) {
        // SAFETY: both are async-signal-safe. This thread blocks the signal until the handler returns. Not `raise`: in
        // a child of `vfork`, some C libraries send that to the parent's thread.
        unsafe { libc::kill(libc::getpid(), signal) };
    }
}

/// The kernel's action for one signal.
struct Kernel(c_int);

impl Disposition for Kernel {
    type Action = libc::sigaction;

    fn current(&self) -> io::Result<libc::sigaction> {
        // SAFETY: all zeroes is a valid sigaction.
        let mut action = unsafe { mem::zeroed() };
        // SAFETY: changes nothing; `action` is valid for writing.
        check(unsafe { libc::sigaction(self.0, ptr::null(), &raw mut action) })?;
        Ok(action)
    }

    fn replace(&self, action: &libc::sigaction) -> io::Result<libc::sigaction> {
        // SAFETY: all zeroes is a valid sigaction.
        let mut replaced = unsafe { mem::zeroed() };
        // SAFETY: `handle` is async-signal-safe and lives until the process ends; other actions came from the system.
        check(unsafe { libc::sigaction(self.0, action, &raw mut replaced) })?;
        Ok(replaced)
    }

    fn default(&self) -> libc::sigaction {
        // SAFETY: all zeroes is the default action.
        unsafe { mem::zeroed() }
    }

    fn is_default(&self, action: &libc::sigaction) -> bool {
        action.sa_sigaction == libc::SIG_DFL
    }

    fn ours(&self, copy: usize) -> libc::sigaction {
        // SAFETY: all zeroes is a valid sigaction; the fields that matter are set below.
        let mut ours: libc::sigaction = unsafe { mem::zeroed() };
        ours.sa_sigaction = address(copy);
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        // SAFETY: the mask is valid for writing.
        unsafe { libc::sigemptyset(&raw mut ours.sa_mask) };
        ours
    }

    fn copy(&self, action: &libc::sigaction) -> Option<usize> {
        (0..MAX_COPIES).find(|copy| action.sa_sigaction == address(*copy))
    }

    fn is_same(&self, one: &libc::sigaction, other: &libc::sigaction) -> bool {
        // SAFETY: both sets are initialized.
        let holds = |action: &libc::sigaction, signal| unsafe { libc::sigismember(&raw const action.sa_mask, signal) };
        let mut numbers = 1..c_int::try_from(NUMBERS).unwrap_or(c_int::MAX);
        one.sa_sigaction == other.sa_sigaction
            && one.sa_flags == other.sa_flags
            && numbers.all(|signal| holds(one, signal) == holds(other, signal))
    }
}

fn address(copy: usize) -> libc::sighandler_t {
    type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
    // One static, so that each copy has one address: a function may have several.
    static HANDLERS: [Handler; MAX_COPIES] = [handle::<0>, handle::<1>, handle::<2>, handle::<3>];
    HANDLERS[copy] as libc::sighandler_t
}

fn chain(signal: c_int) -> io::Result<&'static Chain<libc::sigaction>> {
    let chain = usize::try_from(signal).ok().and_then(|number| CHAINS.get(number));
    chain.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Checks that the system knows the signal and allows a handler for it.
pub(super) fn is_catchable(signal: c_int) -> io::Result<()> {
    chain(signal).and(Kernel(signal).current()).map(drop)
}

/// Installs our handler. No other thread may change the chain in the meantime.
pub(super) fn install(signal: c_int) -> io::Result<()> {
    chain(signal)?.install(&Kernel(signal))
}

/// Restores the previous handler, and returns how often the signal has arrived since the last call of [`take_count`].
/// No other thread may change the chain in the meantime.
pub(super) fn uninstall(signal: c_int) -> u32 {
    chain(signal).map_or(0, |chain| chain.uninstall(&Kernel(signal)))
}

/// Returns how often the signal has arrived since the last call.
pub(super) fn take_count(signal: c_int) -> u32 {
    chain(signal).map_or(0, Chain::take_count)
}

/// Makes this process the one whose dispatcher reads the counts and is woken through the descriptor `wake`. Restores
/// the handlers from before those that a parent process has installed.
pub(super) fn set_owner(wake: c_int) {
    for (signal, chain) in (0..).zip(&CHAINS) {
        if chain.is_used() {
            let _ = chain.restore(&Kernel(signal));
        }
        chain.reset();
    }
    set_wake_fd(wake);
    // SAFETY: getpid has no preconditions.
    OWNER_ID.store(unsafe { libc::getpid() }, Ordering::SeqCst);
    OWNER.store(this_process(), Ordering::SeqCst);
}

/// Sets the descriptor through which the dispatcher is woken.
pub(super) fn set_wake_fd(wake: c_int) {
    WAKE.store(wake, Ordering::SeqCst);
}

/// Ends the process without the destructors that `exit` runs: one of them may wait for a callback that hangs.
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

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;

    /// The kernel, with a signal before and after every call.
    struct AtEachStep(Kernel, AtomicU32);

    impl AtEachStep {
        fn step<T>(&self, call: impl FnOnce(&Kernel) -> T) -> T {
            self.arrive();
            let answer = call(&self.0);
            self.arrive();
            answer
        }

        /// Raises the signal. It is ignored until a handler of ours is installed; from then on it must count.
        fn arrive(&self) {
            let current = self.0.current().expect("a known signal");
            if self.0.copy(&current).is_some() {
                self.1.fetch_add(1, Ordering::SeqCst);
            }
            // SAFETY: the signal is ignored or handled.
            unsafe { libc::raise(self.0.0) };
        }
    }

    impl Disposition for AtEachStep {
        type Action = libc::sigaction;

        fn current(&self) -> io::Result<libc::sigaction> {
            self.step(Disposition::current)
        }

        fn replace(&self, action: &libc::sigaction) -> io::Result<libc::sigaction> {
            self.step(|kernel| kernel.replace(action))
        }

        fn default(&self) -> libc::sigaction {
            self.0.default()
        }

        fn is_default(&self, action: &libc::sigaction) -> bool {
            self.0.is_default(action)
        }

        fn ours(&self, copy: usize) -> libc::sigaction {
            self.0.ours(copy)
        }

        fn copy(&self, action: &libc::sigaction) -> Option<usize> {
            self.0.copy(action)
        }

        fn is_same(&self, one: &libc::sigaction, other: &libc::sigaction) -> bool {
            self.0.is_same(one, other)
        }
    }

    // GS-2, GS-3: a signal counts at every instant in which our handler is installed, also during `install` and
    // `uninstall`.
    #[test]
    fn a_signal_at_any_step_counts_while_the_handler_is_installed() {
        // No other unit test installs a handler.
        set_owner(-1);
        let signal = libc::SIGUSR2;
        let system = AtEachStep(Kernel(signal), AtomicU32::new(0));
        // SAFETY: a signal that is ignored.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
        let chain = chain(signal).unwrap();
        for _ in 0..2 {
            chain.install(&system).unwrap();
            let due = system.1.swap(0, Ordering::SeqCst);
            assert!(due > 0, "a signal arrived right after the handler was installed");
            assert_eq!(chain.take_count(), due);
            let reported = chain.uninstall(&system);
            assert_eq!(reported, system.1.swap(0, Ordering::SeqCst));
            assert_eq!(chain.take_count(), 0);
        }
    }

    // GS-2: a signal whose handler runs only after `uninstall` has its own effect.
    #[test]
    fn a_signal_whose_handler_runs_late_has_its_own_effect() {
        // SAFETY: the child calls only async-signal-safe functions.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            set_owner(-1);
            let _ = install(libc::SIGTERM);
            uninstall(libc::SIGTERM);
            handle::<0>(libc::SIGTERM, ptr::null_mut(), ptr::null_mut());
            // SAFETY: only ends the process.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: `child` is a child of this process that was not waited for; `status` is valid for writing.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM, "{status:#x}");
    }
}
