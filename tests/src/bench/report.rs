//! Turns samples into a table of ratios.

use super::measure::{Admission, Samples};
use super::peers::{Peer, Workload};
use std::fmt::Write;
use std::time::Duration;

/// The measurements of one workload, in the order of [`Peer::ALL`].
pub type Section = (Workload, Vec<(Peer, Admission)>);

/// The smallest sample.
#[must_use]
pub fn minimum(samples: &[Duration]) -> Duration {
    samples.iter().min().copied().unwrap_or_default()
}

/// The sample that `share` of all do not exceed (nearest rank); `share` lies between 0 and 1.
#[must_use]
pub fn percentile(samples: &[Duration], share: f64) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The report as Markdown.
#[must_use]
pub fn render(machine: &str, sections: &[Section]) -> String {
    let mut out = String::new();
    put(&mut out, "# Starting a program: how much slower than a plain spawn\n");
    put(
        &mut out,
        "Written by `scripts/bench`. One interleaved run: every row of a table was measured in turn, round by",
    );
    put(&mut out, "round, on the same machine. Only ratios carry over to another machine.\n");
    put(&mut out, &format!("{machine}\n"));
    for (workload, peers) in sections {
        section(&mut out, *workload, peers);
    }
    put(&mut out, "What each row has:\n");
    for peer in Peer::ALL {
        put(&mut out, &format!("- {}: {}", peer.name(), peer.meaning()));
    }
    out
}

fn section(out: &mut String, workload: Workload, peers: &[(Peer, Admission)]) {
    put(out, &format!("## {}\n", workload.title()));
    put(out, "| | min µs | p50 µs | p99 µs | CPU µs | runs/s | min ratio | p50 ratio | CPU ratio | throughput ratio |");
    put(out, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let base = peers.iter().find(|(peer, _)| *peer == Peer::Plain).and_then(|(_, samples)| samples.as_ref().ok());
    for (peer, admission) in peers {
        if let Ok(samples) = admission {
            put(out, &row(*peer, samples, base.unwrap_or(samples)));
        }
    }
    put(out, "");
    for (peer, admission) in peers {
        if let Err(why) = admission {
            put(out, &format!("Not measured: {} ({why}).\n", peer.name()));
        }
    }
}

fn row(peer: Peer, samples: &Samples, base: &Samples) -> String {
    let columns = |s: &Samples| [minimum(&s.latency), percentile(&s.latency, 0.5), processor(s)].map(micros);
    let (own, plain) = (columns(samples), columns(base));
    let ratios: Vec<String> = own.iter().zip(plain).map(|(own, plain)| format!("{:.2}", own / plain)).collect();
    format!(
        "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {} | {:.3} |",
        peer.name(),
        own[0],
        own[1],
        micros(percentile(&samples.latency, 0.99)),
        own[2],
        throughput(samples),
        ratios.join(" | "),
        throughput(samples) / throughput(base),
    )
}

fn processor(samples: &Samples) -> Duration {
    let runs = u32::try_from(samples.latency.len()).unwrap_or(u32::MAX);
    samples.processor.checked_div(runs).unwrap_or_default()
}

fn throughput(samples: &Samples) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let runs = samples.parallel_runs as f64;
    runs / samples.parallel_time.as_secs_f64()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn put(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("a string takes a line");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(values: &[u64]) -> Vec<Duration> {
        values.iter().map(|value| Duration::from_millis(*value)).collect()
    }

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let samples = millis(&[5, 1, 4, 2, 3]);
        assert_eq!(percentile(&samples, 0.5), Duration::from_millis(3));
        assert_eq!(percentile(&samples, 0.99), Duration::from_millis(5));
        assert_eq!(minimum(&samples), Duration::from_millis(1));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn ratios_are_against_plain_and_a_missing_peer_says_why() {
        let samples = |scale: u64| Samples {
            latency: millis(&[scale, 2 * scale, 3 * scale]),
            processor: Duration::from_millis(3 * scale),
            parallel_runs: 100 / scale,
            parallel_time: Duration::from_secs(1),
        };
        let peers = vec![
            (Peer::Plain, Ok(samples(1))),
            (Peer::Bubblewrap, Ok(samples(10))),
            (Peer::Runsc, Err("cannot start".to_owned())),
        ];
        let text = render("a machine", &[(Workload::True, peers)]);
        assert!(
            text.contains("| bwrap | 10000 | 20000 | 30000 | 10000 | 10.0 | 10.00 | 10.00 | 10.00 | 0.100 |"),
            "{text}"
        );
        assert!(text.contains("Not measured: runsc (cannot start)."), "{text}");
    }
}
