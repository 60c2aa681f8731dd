//! Whether what was sampled is flat: the later half of memory, the last quarter of latency
//! beside the second. The first is the server's warming up.

use super::sample::Sample;

/// How much anonymous memory (resident, and no file's) may grow over the later half, by the line
/// that fits it best: what an allocator moves by, and far less than one that loses a little of each
/// connection.
pub const GROWTH_BYTES_MAX: f64 = 2.0 * 1024.0 * 1024.0;
/// How many times the latency may be what it was, p50 and p99, each over the floor's of the same
/// second: how busy the machine was at the time is in both.
pub const SLOWER_MAX: [f64; 2] = [1.5, 2.0];

/// What memory grows by over the later half.
pub fn growth_bytes(samples: &[Sample]) -> f64 {
    let later = &samples[samples.len() / 2..];
    let count = later.len() as f64;
    let middle = later.iter().map(|one| one.second as f64).sum::<f64>() / count;
    let mean = later
        .iter()
        .map(|one| one.anonymous_bytes as f64)
        .sum::<f64>()
        / count;
    let (mut both, mut square) = (0.0, 0.0);
    for one in later {
        let from_middle = one.second as f64 - middle;
        both += from_middle * (one.anonymous_bytes as f64 - mean);
        square += from_middle * from_middle;
    }
    let seconds = later[later.len() - 1].second - later[0].second;
    both / square * seconds as f64
}

/// How many times latency is what it was, p50 and p99.
pub fn slower(samples: &[Sample]) -> [f64; 2] {
    let quarter = samples.len() / 4;
    [0, 1].map(|which| {
        let typical = |from: usize| {
            let seconds = samples[from..from + quarter].iter();
            let measured =
                seconds.filter(|one| one.floor_us[which] > 0.0 && one.trips_us[which] > 0.0);
            let mut ratios: Vec<f64> = measured
                .map(|one| one.trips_us[which] / one.floor_us[which])
                .collect();
            ratios.sort_by(f64::total_cmp);
            ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
        };
        typical(samples.len() - quarter) / typical(quarter)
    })
}

/// Says what is not flat; needs eight samples at least.
pub fn judge(samples: &[Sample]) -> Vec<String> {
    let mut wrong = Vec::new();
    let growth = growth_bytes(samples);
    if growth.is_nan() || growth > GROWTH_BYTES_MAX {
        wrong.push(format!(
            "anonymous memory grows by {:.0} KiB over the later half, more than {:.0}",
            growth / 1024.0,
            GROWTH_BYTES_MAX / 1024.0
        ));
    }
    for ((ratio, most), name) in slower(samples)
        .into_iter()
        .zip(SLOWER_MAX)
        .zip(["p50", "p99"])
    {
        // Not a number is what nobody has measured.
        if ratio.is_nan() || ratio > most {
            wrong.push(format!(
                "{name} of requests over the floor's is {ratio:.2} times what it was, more than {most}"
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    /// An hour of which each second is as `memory` and `latency` say.
    fn hour(memory: impl Fn(f64) -> f64, latency: impl Fn(f64) -> [f64; 2]) -> Vec<Sample> {
        let second = |second: u64| {
            // A machine that is twice as busy for half of the time, and an allocator's waves.
            let busy = [1.0, 2.0][usize::from(second % 100 < 50)];
            let at = second as f64 / 3600.0;
            Sample {
                second,
                anonymous_bytes: (memory(at) + 0.5 * MIB * (second % 7) as f64) as u64,
                trips_us: latency(at).map(|trip| trip * busy),
                floor_us: [50.0 * busy, 200.0 * busy],
                ..Sample::default()
            }
        };
        (0..3600).map(second).collect()
    }

    #[test]
    fn what_is_not_flat_is_found() {
        let (memory, latency) = (|_| 40.0 * MIB, |_| [100.0, 400.0]);
        let warms_up = |at: f64| MIB * (40.0 - 30.0 * (1.0 - 4.0 * at).max(0.0));
        assert_eq!(judge(&hour(memory, latency)), [""; 0]);
        assert_eq!(judge(&hour(warms_up, latency)), [""; 0]);
        // A hundred bytes of each of ten connections a second, and more.
        let leaks = |at: f64| MIB * (40.0 + 5.0 * at);
        let ages = |at: f64| [100.0 * (1.0 + 3.0 * at), 400.0];
        let stalls = |at: f64| [100.0, if at > 0.7 { 1000.0 } else { 400.0 }];
        for (samples, wanted) in [
            (hour(leaks, latency), "anonymous memory"),
            (hour(memory, ages), "p50"),
            (hour(memory, stalls), "p99"),
            (hour(memory, |_| [f64::NAN; 2]), "p50"),
        ] {
            let found = judge(&samples);
            assert!(
                found.iter().any(|what| what.starts_with(wanted)),
                "{wanted}: {found:?}"
            );
        }
    }
}
