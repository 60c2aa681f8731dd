//! `GET /`: a page that shows the server live, for people.
//!
//! One self-contained document: style and script are in it. It contains no data of the server,
//! so everyone gets it; the JSON that it then requests may need a credential, for which the page
//! asks (kept in the tab's sessionStorage).
//!
//! **What may run.** The policy names the one style and the one script by their digests, so that
//! injected style or script does not run; all text from the server becomes `textContent`. The
//! page may connect only to its own origin, and no other page may frame it.
//!
//! - `page.html`: the skeleton. `style.css`: both themes by `light-dark()`.
//! - `rate.js`: from answers to rows and numbers, without the page; `chart.js`, `table.js`;
//!   `page.js`: asking, and putting it together.

use crate::server::control::http::admin::Admin;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::sync::{Arc, LazyLock};

const SKELETON: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
/// Wrapped in a function, so that none of the page's names become global.
const SCRIPT: &str = concat!(
    "\"use strict\";(() => {\n",
    include_str!("rate.js"),
    include_str!("chart.js"),
    include_str!("table.js"),
    include_str!("page.js"),
    "})();",
);

static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

struct Page {
    html: Bytes,
    policy: String,
}

impl Page {
    fn new() -> Page {
        let html = SKELETON
            .replace("{{style}}", STYLE)
            .replace("{{script}}", SCRIPT);
        let sha256 = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; \
             connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
            sha256(SCRIPT),
            sha256(STYLE)
        );
        Page {
            html: html.into(),
            policy,
        }
    }
}

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/", get(page))
}

async fn page() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, PAGE.policy.as_str()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // So that after an update the new page is loaded.
        (CACHE_CONTROL, "no-cache"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    (headers, PAGE.html.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_put_together_and_names_no_other_place() {
        let html = std::str::from_utf8(&PAGE.html).unwrap();
        assert!(!html.contains("{{"), "a part is missing");
        // The namespace of SVG is a name, not an address.
        let html = html.replace("http://www.w3.org/2000/svg", "");
        for elsewhere in ["http://", "https://", "src=", "@import", "url(", "import("] {
            assert!(!html.contains(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn nothing_ends_style_or_script_before_its_end() {
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
        // Functions that would turn text from the server into elements.
        for dangerous in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
        ] {
            assert!(!SCRIPT.contains(dangerous), "{dangerous}");
        }
    }
}
