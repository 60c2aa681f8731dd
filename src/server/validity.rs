//! Validity of certificates: reasons for which clients will refuse a server's chain.

use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

/// Checks the dates of a chain, from the file `path`, at `now` (Unix seconds): returns a line for
/// each certificate that is not valid. One that cannot be parsed here has no date: TLS has its own
/// parser, which may accept it.
pub(super) fn faults(path: &str, chain: &[CertificateDer<'_>], now: u64) -> Vec<String> {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut faults = Vec::new();
    for (index, der) in chain.iter().enumerate() {
        let Ok((_, certificate)) = parse_x509_certificate(der) else {
            continue;
        };
        let validity = certificate.validity();
        let fault = if validity.not_after.timestamp() < now {
            format!("has expired on {}", told(validity.not_after))
        } else if validity.not_before.timestamp() > now {
            format!("is not valid before {}", told(validity.not_before))
        } else {
            continue;
        };
        let which = match index {
            0 => String::new(),
            _ => format!("certificate {} of ", index + 1),
        };
        faults.push(format!(
            "{which}tls.certificate {path:?} {fault}: clients refuse it; replace it with a \
             valid one, which takes effect without a restart, or set this host's clock"
        ));
    }
    faults
}

fn told(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(month);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_or_future_certificate_is_reported_with_its_date() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = |from: i32, until: i32| {
            let mut params = rcgen::CertificateParams::default();
            params.not_before = rcgen::date_time_ymd(from, 1, 2);
            params.not_after = rcgen::date_time_ymd(until, 3, 4);
            params.self_signed(&key).expect("signed").der().clone()
        };
        // 2026-01-01.
        let at = |chain: &[CertificateDer<'_>]| faults("a.pem", chain, 1_767_225_600);
        let (valid, old, early) = (made(2025, 2027), made(2020, 2021), made(2027, 2028));
        assert!(at(&[valid.clone(), valid.clone()]).is_empty());
        let of_old = at(std::slice::from_ref(&old)).remove(0);
        assert!(
            of_old.starts_with("tls.certificate \"a.pem\" has expired on 2021-03-04 00:00:00 UTC")
        );
        let of_chain = at(&[valid, early]).remove(0);
        assert!(of_chain.starts_with(
            "certificate 2 of tls.certificate \"a.pem\" is not valid before 2027-01-02"
        ));
        assert!(at(&[CertificateDer::from(vec![1, 2, 3])]).is_empty());
    }
}
