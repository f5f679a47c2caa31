//! What a process uses, as the kernel counts it.
//!
//! In: a process id. Out: CPU time, memory. Guarantee: of the process with all of its threads.
//!
//! - <https://docs.kernel.org/filesystems/proc.html>
//! - <https://docs.kernel.org/scheduler/sched-stats.html>

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// CPU time so far, of the user and of the system, of the threads that live. `stat` has it in hundredths of a second, which is
/// as long as several invocations.
///
/// # Errors
/// There is no such process.
pub fn cpu_time(process_id: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{process_id}/task"))? {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let first = text.split(' ').next().unwrap_or_default();
        nanoseconds += first.parse::<u64>().context("the CPU time of a thread")?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Whether all of its threads sleep. `false` of a process that is not there.
#[must_use]
pub fn is_waiting(process_id: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process_id}/task")) else { return false };
    threads.flatten().all(|thread| {
        let text = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses and may have any characters.
        text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
    })
}

/// The most memory that it has had, in KiB.
///
/// # Errors
/// There is no such process.
pub fn peak_memory_kib(process_id: u32) -> Result<u64> {
    status(process_id, "VmHWM:")
}

/// The memory that it has now, in KiB.
///
/// # Errors
/// There is no such process.
pub fn memory_kib(process_id: u32) -> Result<u64> {
    status(process_id, "VmRSS:")
}

fn status(process_id: u32, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process_id}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next());
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}

/// The machine, as a reader has to know it: kind and number of cores, no name.
#[must_use]
pub fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("model name"))
        .filter_map(|line| line.split_once(": ").map(|(_, model)| model))
        .collect();
    let model = models.first().copied().unwrap_or("an unknown model");
    format!("{} {} cores, {model}", models.len(), std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_grow_with_their_use() -> Result<()> {
        let me = std::process::id();
        let (time, peak) = (cpu_time(me)?, peak_memory_kib(me)?);
        let mut used = vec![1_u8; 64 << 20];
        for round in 0..10 {
            used.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(3).wrapping_add(round));
        }
        assert!(std::hint::black_box(&used).len() == 64 << 20);
        assert!(cpu_time(me)? > time, "{time:?}");
        assert!(peak_memory_kib(me)? >= peak + 60_000, "{peak}");
        Ok(())
    }
}
