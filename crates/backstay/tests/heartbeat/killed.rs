//! A heartbeat that is killed hundreds of times.

use std::os::unix::process::parent_id;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use backstay::Heartbeat;
use backstay::heartbeat::Liveness;

use super::{AGE, Folder, this_program};

const KILLS: u32 = 250;

// HB-3: readers never see a partial file, and a later start removes the temporary files of killed processes.
// HB-7: a killed process is gone at once.
#[test]
fn hundreds_of_kills_leave_whole_files_and_no_litter() {
    let folder = Folder::new();
    let path = folder.file();
    let heartbeat = Heartbeat::builder().state_file(&path).interval(AGE).build().unwrap();
    heartbeat.beat().unwrap();
    let (over, last_pid) = (AtomicBool::new(false), AtomicU32::new(0));
    let (mut most_litter, mut beats) = (0, 0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u64;
            while !over.load(Ordering::Relaxed) {
                last_pid.store(Heartbeat::read_state(&path).unwrap().pid, Ordering::Relaxed);
                reads += 1;
            }
            reads
        });
        let mut random = std::process::id();
        for _ in 0..KILLS {
            let mut child = this_program("killed::beats_until_killed");
            let mut child = child.env("STATE_FILE", &path).stdout(Stdio::null()).spawn().unwrap();
            super::eventually(|| last_pid.load(Ordering::Relaxed) == child.id());
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            std::thread::park_timeout(Duration::from_micros(u64::from(random >> 22)));
            child.kill().unwrap();
            child.wait().unwrap();
            beats += folder.state().sequence.unwrap();
            assert_eq!(Heartbeat::liveness(&path, AGE).unwrap(), Liveness::ProcessGone);
            most_litter = most_litter.max(folder.names().len() - 1);
            assert!(!reader.is_finished(), "the reader saw a partial file");
        }
        over.store(true, Ordering::Relaxed);
        println!(
            "{} reads, {beats} beats of killed processes, at most {most_litter} temporary files left",
            reader.join().unwrap()
        );
    });
    Heartbeat::builder().state_file(&path).interval(AGE).build().unwrap().beat().unwrap();
    assert_eq!(folder.names(), ["bot.heartbeat"]);
}

#[test]
#[ignore = "run, and killed, by hundreds_of_kills_leave_whole_files_and_no_litter"]
fn beats_until_killed() {
    let path = std::env::var_os("STATE_FILE").unwrap();
    let heartbeat = Heartbeat::builder().state_file(path).interval(AGE).build().unwrap();
    // The test that should kill this process may have failed: end when its process has ended.
    let parent = parent_id();
    while parent_id() == parent {
        heartbeat.beat().unwrap();
    }
}
