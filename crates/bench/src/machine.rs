//! Processor time, steal and memory of this machine, read from `/proc`.

use std::fs;

/// Clock ticks per second, the unit of `/proc`; 100 on every current Linux.
const TICKS: f64 = 100.0;

/// Processor time of the whole machine so far, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// All time except idle and stolen time.
    pub busy: f64,
    /// Time taken by other machines on the same host.
    pub stolen: f64,
    /// All time, idle included.
    pub total: f64,
}

impl Cpu {
    /// The counters now; zeros on systems without `/proc`.
    pub fn now() -> Self {
        fs::read_to_string("/proc/stat")
            .ok()
            .as_deref()
            .and_then(parse_cpu)
            .unwrap_or_default()
    }

    /// The difference to `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            busy: self.busy - earlier.busy,
            stolen: self.stolen - earlier.stolen,
            total: self.total - earlier.total,
        }
    }

    /// The stolen share, from 0 to 1.
    pub fn steal(self) -> f64 {
        match self.total > 0.0 {
            true => self.stolen / self.total,
            false => 0.0,
        }
    }
}

/// Parses the line `cpu  user nice system idle iowait irq softirq steal …`
fn parse_cpu(text: &str) -> Option<Cpu> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let [user, nice, system, idle, iowait, irq, softirq, stolen] = ticks[..] else {
        return None;
    };
    let busy = user + nice + system + irq + softirq;
    Some(Cpu {
        busy: busy / TICKS,
        stolen: stolen / TICKS,
        total: (busy + idle + iowait + stolen) / TICKS,
    })
}

/// Processor time used by a process so far, in seconds; `None` without `/proc`.
pub fn process_cpu(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The process name is in parentheses and may contain blanks and parentheses.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// The most memory a process has held, in bytes; `None` without `/proc`.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Number and model of the processors, and the memory, in words.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".into());
    let memory = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let kib: u64 = text
                .lines()
                .next()?
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()?;
            Some(kib / 1024 / 1024)
        })
        .unwrap_or(0);
    format!("{cores} cores ({model}), {memory} GiB of memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_kernel_is_parsed() {
        let text = "cpu  100 0 50 800 20 5 5 20 0 0\ncpu0 1 2 3\n";
        let cpu = parse_cpu(text).unwrap();
        assert_eq!((cpu.busy, cpu.stolen, cpu.total), (1.6, 0.2, 10.0));
        assert_eq!(cpu.steal(), 0.02);
    }

    #[test]
    fn this_process_has_used_memory() {
        assert!(peak_memory(std::process::id()).is_some_and(|bytes| bytes > 100_000));
        assert!(process_cpu(std::process::id()).is_some());
    }
}
