//! A registry with one instance for each name in the process.

use std::hash::{DefaultHasher, Hash, Hasher};

use once_cell::race::OnceBox;

/// The named instances of one type, for a `static`.
///
/// It is a binary tree that only grows. The bits of a name's hash are its path: O(log n) for n names. Neither a lookup
/// nor an insertion takes a lock, so a forked child keeps the parent's instances and waits for none of the parent's
/// threads. Instances are never removed, because names come from code and configuration.
///
/// # Memory ordering
/// That of `OnceBox`: it publishes an node by a compare-and-swap (release), and a lookup loads it (acquire).
pub(crate) struct InstanceRegistry<T>(NodeLink<T>);

type NodeLink<T> = OnceBox<InstanceNode<T>>;

struct InstanceNode<T> {
    name: Box<str>,
    instance: T,
    next: [NodeLink<T>; 2],
}

impl<T: Clone> InstanceRegistry<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceBox::new())
    }

    /// Returns the instance of this name, or builds it. If several threads build it at once, all get the first one
    /// stored.
    pub(crate) fn named<E>(&self, name: &str, build: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut path = hash(name);
        let mut link = &self.0;
        let mut build = Some(build);
        let mut fresh = None;
        loop {
            while let Some(node) = link.get() {
                if *node.name == *name {
                    return Ok(node.instance.clone());
                }
                // After 64 bits the path repeats. Only names with equal hashes are that deep.
                link = &node.next[usize::from(path & 1 == 1)];
                path = path.rotate_right(1);
            }
            if let Some(build) = build.take() {
                fresh = Some(Box::new(InstanceNode {
                    name: name.into(),
                    instance: build()?,
                    next: [OnceBox::new(), OnceBox::new()],
                }));
            }
            // The next iteration finds this node, or another thread's, which may have another name.
            fresh = fresh.and_then(|node| link.set(node).err());
        }
    }
}

impl<T: Clone> InstanceRegistry<T> {
    /// Returns every instance, in the order of names.
    pub(crate) fn all(&self) -> Vec<T> {
        let (mut links, mut found) = (vec![&self.0], Vec::new());
        while let Some(link) = links.pop() {
            if let Some(node) = link.get() {
                found.push(node);
                links.extend(&node.next);
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found.into_iter().map(|node| node.instance.clone()).collect()
    }
}

/// Hashes a name with fixed keys. Names are the program's own, so an attacker cannot choose them.
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

    // CB-22: each instance is listed once, by name.
    #[test]
    fn all_instances_are_listed() {
        let registry = InstanceRegistry::<String>::new();
        assert_eq!(registry.all(), Vec::<String>::new());
        let names: Vec<String> = (0..200).map(|name| format!("{name:03}")).collect();
        for name in names.iter().rev().chain(&names) {
            registry.named(name, || Ok::<_, Infallible>(name.clone())).unwrap_or_else(|never| match never {});
        }
        assert_eq!(registry.all(), names);
    }

    // CF-3: all callers get the same instance, also concurrent ones.
    #[test]
    fn concurrent_callers_get_the_same_instance() {
        const THREADS: usize = 8;
        const NAMES: usize = 50;
        let registry = InstanceRegistry::<Arc<usize>>::new();
        let barrier = Barrier::new(THREADS);
        let built = AtomicUsize::new(0);
        let seen: Vec<Vec<Arc<usize>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let get = |name: usize| {
                            let build = || Ok::<_, Infallible>(Arc::new(built.fetch_add(1, Ordering::SeqCst)));
                            registry.named(&name.to_string(), build).unwrap_or_else(|never| match never {})
                        };
                        (0..NAMES).map(get).collect()
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

    // CF-3: with many names a lookup is still fast.
    #[test]
    fn the_tree_stays_shallow() {
        fn depth<T>(link: &NodeLink<T>) -> usize {
            link.get().map_or(0, |node| 1 + node.next.iter().map(depth).max().unwrap_or(0))
        }
        let registry = InstanceRegistry::<usize>::new();
        for name in 0..4096 {
            assert_eq!(registry.named(&name.to_string(), || Ok::<_, Infallible>(name)), Ok(name));
        }
        for name in 0..4096 {
            assert_eq!(registry.named(&name.to_string(), || Err("built twice")), Ok(name));
        }
        assert!(depth(&registry.0) < 64, "{}", depth(&registry.0));
    }

    #[test]
    fn a_failed_build_is_tried_again() {
        let registry = InstanceRegistry::<Arc<u32>>::new();
        assert_eq!(registry.named("a", || Err("broken")), Err("broken"));
        assert_eq!(registry.named("a", || Ok::<_, &str>(Arc::new(1))), Ok(Arc::new(1)));
        assert_eq!(registry.named("a", || Err("not asked")), Ok(Arc::new(1)));
    }
}
