//! What the rounds amount to: a table to read, and JSON to compare.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::Subject;
use crate::message::Sizes;

/// One subject in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: u32,
    pub(crate) p99_us: u32,
    pub(crate) errors: u64,
    /// Processor time of the subject's own process for each call; on a busy machine it says more than the rate.
    pub(crate) cpu_us_per_request: Option<f64>,
    /// The same of the database server, where the gateway works on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database_cpu_us_per_request: Option<f64>,
    /// The most memory that the subject's process has held since its start.
    pub(crate) peak_rss_kib: Option<u64>,
}

/// All subjects in one round.
pub(crate) type Round = BTreeMap<Subject, Figures>;

/// Everything that `gateway.json` holds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rounds: Vec<Round>,
    /// Of requests a second: medians of each round's own ratio, so that a slow minute of the machine cancels out.
    pub(crate) ratios: BTreeMap<&'static str, f64>,
    pub(crate) medians: Round,
    pub(crate) load: LoadShape,
    pub(crate) message: Sizes,
    pub(crate) machine: Machine,
}

/// The load, as it was asked for.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct LoadShape {
    pub(crate) connections: usize,
    pub(crate) calls_per_connection: usize,
    pub(crate) seconds: f64,
}

impl Report {
    pub(crate) fn new(rounds: Vec<Round>, load: LoadShape, message: Sizes, machine: Machine) -> Self {
        const RATIOS: [(&str, Subject, Subject); 6] = [
            ("proxy_over_echo", Subject::Proxy, Subject::Echo),
            ("verify_over_bare_proxy", Subject::Gateway, Subject::Proxy),
            ("verify_over_bare_proxy_busy", Subject::GatewayBusy, Subject::ProxyBusy),
            ("verify_over_echo", Subject::Gateway, Subject::Echo),
            ("submit_over_echo", Subject::Submit, Subject::EchoSubmit),
            ("batch_over_one_by_one", Subject::Batch, Subject::OneByOne),
        ];
        let rate = |round: &Round, subject| Some(round.get(&subject)?.requests_per_second);
        let ratios = RATIOS.into_iter().filter_map(|(name, over, under)| {
            let each = rounds.iter().filter_map(|round| Some(rate(round, over)? / rate(round, under)?));
            Some((name, median(each)?))
        });
        let ratios = ratios.collect();
        let medians = Subject::ALL.into_iter().filter_map(|subject| {
            let of_subject: Vec<_> = rounds.iter().filter_map(|round| round.get(&subject)).collect();
            Some((subject, Figures::median(&of_subject)?))
        });
        let medians = medians.collect();
        Self { rounds, ratios, medians, load, message, machine }
    }

    /// The medians, as a table that a README can take over.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header([
            "subject",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "CPU µs/request",
            "peak RSS MiB",
        ]);
        for (subject, figures) in &self.medians {
            table.add_row([
                subject.title().to_owned(),
                format!("{:.0}", figures.requests_per_second),
                format!("{:.2}", f64::from(figures.p50_us) / 1000.0),
                format!("{:.2}", f64::from(figures.p99_us) / 1000.0),
                or_unknown(figures.cpu_us_per_request.map(|micros| {
                    let of_database = figures.database_cpu_us_per_request;
                    format!("{micros:.0}")
                        + &of_database.map(|micros| format!(" + {micros:.0}")).unwrap_or_default()
                })),
                or_unknown(figures.peak_rss_kib.map(|kib| format!("{:.1}", kib as f64 / 1024.0))),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.to_string();
        text.push('\n');
        for (name, ratio) in &self.ratios {
            text.push_str(&format!("\n{name} {ratio:.2}"));
        }
        text
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }
}

impl Figures {
    fn median(each: &[&Self]) -> Option<Self> {
        let of = |value: fn(&Self) -> f64| median(each.iter().map(|figures| value(figures)));
        Some(Self {
            requests_per_second: of(|figures| figures.requests_per_second)?,
            p50_us: of(|figures| figures.p50_us.into())? as u32,
            p99_us: of(|figures| figures.p99_us.into())? as u32,
            errors: each.iter().map(|figures| figures.errors).sum(),
            database_cpu_us_per_request: median(
                each.iter().filter_map(|figures| figures.database_cpu_us_per_request),
            ),
            cpu_us_per_request: median(each.iter().filter_map(|figures| figures.cpu_us_per_request)),
            // A peak has no median: it is the last one.
            peak_rss_kib: each.iter().filter_map(|figures| figures.peak_rss_kib).max(),
        })
    }
}

/// What the figures were measured on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: Option<String>,
    pub(crate) system: String,
    /// Median time to make 4 KiB durable where the gateway's database is; with group commit it bounds latency more
    /// than rate.
    pub(crate) sync_us: f64,
}

impl Machine {
    /// Looks at this machine, and at the disk under `folder`.
    pub(crate) fn inspect(folder: &Path) -> Result<Self> {
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: processor(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            sync_us: sync_us(&folder.join("sync"))?,
        })
    }
}

fn processor() -> Option<String> {
    let about = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = about.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
}

fn sync_us(path: &Path) -> Result<f64> {
    let mut file = File::create(path)?;
    let mut times = Vec::new();
    for _ in 0..32 {
        let started = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times).unwrap_or_default())
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(values[middle - 1], upper)) }
}

fn or_unknown(value: Option<String>) -> String {
    value.unwrap_or_else(|| "n/a".to_owned())
}
