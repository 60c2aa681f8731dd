//! Where a shard's random numbers come from.

/// Where a shard's random numbers come from.
pub enum Entropy {
    /// The system's cryptographic generator, read in large batches.
    System(Vec<u8>),
    /// A seed, so that a simulation can be repeated exactly.
    Seeded(fastrand::Rng),
}

impl Entropy {
    const DRAWN_BYTES: usize = 1024;

    pub fn system() -> Entropy {
        Entropy::System(Vec::new())
    }

    pub fn seeded(seed: u64) -> Entropy {
        Entropy::Seeded(fastrand::Rng::with_seed(seed))
    }

    pub(in crate::broker) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.u32().to_be_bytes()[..chunk.len()]);
        }
    }

    pub(crate) fn u32(&mut self) -> u32 {
        let drawn = match self {
            Entropy::System(drawn) => drawn,
            Entropy::Seeded(generator) => return generator.u32(..),
        };
        if let Some(&number) = drawn.last_chunk() {
            drawn.truncate(drawn.len() - 4);
            return u32::from_be_bytes(number);
        }
        drawn.resize(Entropy::DRAWN_BYTES, 0);
        if let Err(error) = getrandom::fill(drawn) {
            // Since Linux 3.17 this cannot fail once the system has booted.
            panic!("the system's random generator failed: {error}");
        }
        self.u32()
    }
}
