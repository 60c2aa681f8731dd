//! What slow readers cost the server.

use serde::Serialize;
use std::fmt;

/// What the server did about the slow readers, during warm-up and window.
#[derive(Clone, Debug, Serialize)]
pub struct Impact {
    pub readers: u32,
    pub policy: Option<&'static str>,
    /// They only stand by: a baseline.
    pub idle: bool,
    pub payload_bytes: u32,
    /// Asked for.
    pub bytes_per_second_wanted: u32,
    /// Publications handed to the socket, and how long that took.
    pub published: u64,
    pub seconds: f64,
    /// Of the whole server, those to the measured subscribers included.
    pub deliveries: u64,
    pub dropped_oldest: u64,
    pub dropped_newest: u64,
    pub replaced: u64,
    pub disconnected: u64,
    /// One turn of a shard since the server's start, µs.
    pub turn_us: serde_json::Value,
    pub resident_bytes: Option<u64>,
    pub resident_peak_bytes: Option<u64>,
}

impl fmt::Display for Impact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.idle { "idle" } else { "slow" };
        let policy = self.policy.unwrap_or("the server's policy");
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(f, "  {what} readers  {}, {policy}", self.readers)?;
        writeln!(
            f,
            "  published     {:.2} MB/s to them, of {:.2} asked for",
            self.published as f64 * f64::from(self.payload_bytes) / self.seconds / 1e6,
            f64::from(self.bytes_per_second_wanted) / 1e6
        )?;
        writeln!(
            f,
            "  server        {} disconnected; dropped {} oldest, {} newest; {} replaced",
            self.disconnected, self.dropped_oldest, self.dropped_newest, self.replaced
        )?;
        if let (Some(resident), Some(peak)) = (self.resident_bytes, self.resident_peak_bytes) {
            let (resident, peak) = (mib(resident), mib(peak));
            writeln!(
                f,
                "  server memory {resident:.1} MiB resident, {peak:.1} at most"
            )?;
        }
        Ok(())
    }
}
