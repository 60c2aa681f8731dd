//! Tests that need private parts; the session's rules are tested from outside, in `tests/proto`.

use super::pulse::{Jitter, RoundTrip, coalesced};
use super::{Budget, Session};
use crate::base::clock::Instant;
use std::time::Duration;

#[test]
fn a_session_is_small_enough_for_a_million() {
    // Half of what one idle connection may cost in all (512 bytes).
    assert!(size_of::<Session>() <= 256, "{}", size_of::<Session>());
    assert!(size_of::<Budget>() <= 16);
}

#[test]
fn deadlines_are_late_by_a_thirty_second_at_most_and_never_early() {
    for seconds in [1u64, 30, 600, 86_400] {
        let interval = Duration::from_secs(seconds);
        for nanos in (0..1000u64).map(|i| i * 1_234_567_891) {
            let at = Instant::from_nanos(nanos);
            let late = coalesced(at, interval) - at;
            assert!(coalesced(at, interval) >= at);
            assert!(late <= interval / 32 && late < Duration::from_millis(1_100));
        }
    }
    assert_eq!(
        coalesced(Instant::NEVER, Duration::from_secs(30)),
        Instant::NEVER
    );
}

#[test]
fn deadlines_close_to_each_other_fall_together() {
    let interval = Duration::from_secs(30);
    let at = |ms: u64| coalesced(Instant::from_nanos(ms * 1_000_000), interval);
    let mut distinct: Vec<Instant> = (0..10_000).map(at).collect();
    distinct.dedup();
    assert!(
        distinct.len() <= 20,
        "{} wake-ups in ten seconds",
        distinct.len()
    );
}

#[test]
fn of_two_salts_the_larger_waits_longer_on_average_and_none_more_than_a_sixteenth() {
    for seconds in [1u64, 30, 600, 86_400] {
        let interval = Duration::from_secs(seconds);
        let mut before = None;
        for salt in (0..=0xFF).map(|byte| byte << 8) {
            let mut jitter = Jitter::new(0xABCD_0000 | salt);
            let mut sum = Duration::ZERO;
            for _ in 0..256 {
                let wait = jitter.of(interval, interval * 3);
                assert!(wait <= interval / 16);
                sum += wait;
                jitter.advance();
            }
            assert!(before < Some(sum), "{salt}");
            before = Some(sum);
        }
    }
}

#[test]
fn only_the_answer_to_the_last_ping_measures_the_round_trip_and_only_once() {
    let ms = |count: u64| Instant::from_nanos(count * 1_000_000);
    let pong = |at: Instant| at.as_nanos().to_be_bytes();
    let mut trip = RoundTrip::default();
    trip.take_pong(&pong(ms(1)), ms(5));
    assert_eq!(trip.took(), None, "nobody asked");
    trip.ask(ms(1000));
    for wrong in [&pong(ms(999))[..], b"", b"ping", &[0xFF; 8], &[0; 9]] {
        trip.take_pong(wrong, ms(1003));
        assert_eq!(trip.took(), None, "{wrong:?}");
    }
    trip.take_pong(&pong(ms(1000)), ms(1003));
    assert_eq!(trip.took(), Some(Duration::from_millis(3)));
    trip.take_pong(&pong(ms(1000)), ms(2000));
    assert_eq!(trip.took(), Some(Duration::from_millis(3)), "repeated");
    // Hours late: it is clamped, not wrapped.
    trip.ask(ms(0));
    trip.take_pong(&pong(ms(0)), ms(100_000_000));
    assert_eq!(
        trip.took(),
        Some(Duration::from_micros(u64::from(u32::MAX)))
    );
}
