//! One instance for each name, the same for everyone in the process who asks.

use std::hash::{DefaultHasher, Hash, Hasher};

use once_cell::race::OnceBox;

/// The named instances of one type; for a `static`.
///
/// A tree that only grows, in which the bits of a name's hash say the way: O(log n) for n names. Neither looking nor
/// adding takes a lock, so a forked child keeps what the parent had and waits for none of the parent's threads. Names
/// stay: they come from code and configuration.
pub(crate) struct Registry<T>(Link<T>);

type Link<T> = OnceBox<Entry<T>>;

struct Entry<T> {
    name: Box<str>,
    instance: T,
    next: [Link<T>; 2],
}

impl<T: Clone> Registry<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceBox::new())
    }

    /// The instance of this name, built now if there is none. Of several built at once the first to arrive stays.
    pub(crate) fn named<E>(&self, name: &str, build: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut way = hash(name);
        let mut link = &self.0;
        let mut build = Some(build);
        let mut fresh = None;
        loop {
            while let Some(entry) = link.get() {
                if *entry.name == *name {
                    return Ok(entry.instance.clone());
                }
                // After all 64 bits it goes on with the first: only equal hashes come that far.
                link = &entry.next[usize::from(way & 1 == 1)];
                way = way.rotate_right(1);
            }
            if let Some(build) = build.take() {
                fresh = Some(Box::new(Entry {
                    name: name.into(),
                    instance: build()?,
                    next: [OnceBox::new(), OnceBox::new()],
                }));
            }
            // Whether ours or another's got here, the next look finds it; another's may have another name.
            fresh = fresh.and_then(|entry| link.set(entry).err());
        }
    }
}

/// The same in every place of the process. Names are the program's own: no stranger chooses them.
fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(all(test, not(backstay_loom)))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};

    // CF-3: everyone who asks gets the same, also when all ask at once.
    #[test]
    fn everyone_gets_the_same_instance() {
        const THREADS: usize = 8;
        const NAMES: usize = 50;
        let registry = Registry::<Arc<usize>>::new();
        let barrier = Barrier::new(THREADS);
        let built = AtomicUsize::new(0);
        let seen: Vec<Vec<Arc<usize>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let ask = |name: usize| {
                            let build = || Ok::<_, Infallible>(Arc::new(built.fetch_add(1, Ordering::SeqCst)));
                            registry.named(&name.to_string(), build).unwrap_or_else(|never| match never {})
                        };
                        (0..NAMES).map(ask).collect()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for instances in &seen {
            assert!(instances.iter().zip(&seen[0]).all(|(one, other)| Arc::ptr_eq(one, other)));
        }
        let distinct: BTreeSet<_> = seen[0].iter().map(|instance| **instance).collect();
        assert_eq!(distinct.len(), NAMES);
    }

    // CF-3: many names are found as fast as few.
    #[test]
    fn no_name_is_far_from_the_root() {
        fn depth<T>(link: &Link<T>) -> usize {
            link.get().map_or(0, |entry| 1 + entry.next.iter().map(depth).max().unwrap_or(0))
        }
        let registry = Registry::<usize>::new();
        for name in 0..4096 {
            assert_eq!(registry.named(&name.to_string(), || Ok::<_, Infallible>(name)), Ok(name));
        }
        for name in 0..4096 {
            assert_eq!(registry.named(&name.to_string(), || Err("built twice")), Ok(name));
        }
        assert!(depth(&registry.0) < 64, "{}", depth(&registry.0));
    }

    #[test]
    fn what_cannot_be_built_is_asked_for_again() {
        let registry = Registry::<Arc<u32>>::new();
        assert_eq!(registry.named("a", || Err("broken")), Err("broken"));
        assert_eq!(registry.named("a", || Ok::<_, &str>(Arc::new(1))), Ok(Arc::new(1)));
        assert_eq!(registry.named("a", || Err("not asked")), Ok(Arc::new(1)));
    }
}
