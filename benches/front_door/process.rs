//! What a process takes, as Linux tells it.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Looks at a process until it is told to stop.
pub(crate) struct Watch {
    pid: u32,
    before_kib: u64,
    cpu_before: Duration,
    stop: oneshot::Sender<()>,
    peak: JoinHandle<u64>,
}

/// What the process took meanwhile.
pub(crate) struct Used {
    pub(crate) before_mib: f64,
    pub(crate) peak_mib: f64,
    pub(crate) cpu: Duration,
}

impl Used {
    pub(crate) fn growth_mib(&self) -> f64 {
        (self.peak_mib - self.before_mib).max(0.0)
    }
}

impl Watch {
    pub(crate) fn start(pid: u32) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let before_kib = resident_kib(pid);
        let peak = tokio::spawn(async move {
            let mut peak = before_kib;
            loop {
                peak = peak.max(resident_kib(pid));
                tokio::select! {
                    _ = &mut stopped => return peak,
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
            }
        });
        Self { pid, before_kib, cpu_before: cpu(pid), stop, peak }
    }

    pub(crate) async fn stop(self) -> Used {
        let _ = self.stop.send(());
        let peak = self.peak.await.unwrap();
        Used {
            before_mib: self.before_kib as f64 / 1024.0,
            peak_mib: peak as f64 / 1024.0,
            cpu: cpu(self.pid).saturating_sub(self.cpu_before),
        }
    }
}

/// Memory that it holds now.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the gateway runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("proc_pid_status(5)");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

/// Processor time that it has used. Fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms; the command, in brackets, may
/// hold spaces.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the gateway runs");
    let fields = stat.rsplit_once(") ").expect("proc_pid_stat(5)").1.split(' ').skip(11).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(10 * ticks)
}
