//! From OpenMetrics to the older text format, 0.0.4: the same lines, except that the names in a
//! counter's HELP and TYPE carry `_total`, and that UNIT and EOF do not exist.

/// `text` must be well-formed OpenMetrics without info, state sets and exemplars.
pub(super) fn from_open(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    // HELP comes before the TYPE that says how it must be written.
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
            continue;
        }
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((of, help)) = help.take() {
                out.extend(["# HELP ", of, suffix, " ", help, "\n"]);
            }
            out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            continue;
        }
        if !line.starts_with('#') {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_counters_change_and_unit_and_eof_go() {
        let open = "# HELP a_bytes What a is.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n\
                    a_bytes_total{x=\"# y\"} 1\n# HELP b It is b.\n# TYPE b gauge\nb 2\n# EOF\n";
        let classic = "# HELP a_bytes_total What a is.\n# TYPE a_bytes_total counter\n\
                       a_bytes_total{x=\"# y\"} 1\n# HELP b It is b.\n# TYPE b gauge\nb 2\n";
        assert_eq!(from_open(open), classic);
    }
}
