//! The page in a browser: filled from a loaded server, in every size and theme, and with
//! whatever a server may say.
//!
//! Pictures are left in the target folder (their paths are printed).

use crate::browser::Browser;
use crate::scene::Scene;
use serde_json::json;
use std::path::PathBuf;

/// Every chart has a line of some length for each shard.
const CHARTS: &str = "[0, 1, 2, 3, 4].every((chart) => {
    const lines = [...document.querySelectorAll('.chart')[chart].querySelectorAll('path.series')];
    return lines.length === 2 && lines.every((line) => line.getAttribute('d').split('L').length > 2);
})";

/// The rows of the table with this title, as text.
fn rows(title: &str) -> String {
    format!(
        "[...document.querySelectorAll('section.table')]
            .find((table) => table.querySelector('h2').textContent.startsWith('{title}'))
            .querySelectorAll('tbody tr')"
    )
}

fn picture(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

fn open(scene: &Scene) -> Browser {
    let mut browser = Browser::start();
    browser.look(1280, 900, "light");
    browser.open(&format!("http://{}/", scene.admin));
    browser
}

#[test]
fn the_page_is_filled_from_a_loaded_server_in_every_size_and_theme() {
    let scene = Scene::start(None);
    let mut browser = open(&scene);
    browser.until("document.getElementById('state').textContent === 'serving'");
    browser.until(CHARTS);
    browser.until(&format!("{}.length === 2", rows("Shards")));
    browser.until(&format!("{}.length > 3", rows("Latency")));
    browser.until(&format!("{}.length === 4", rows("Slow consumers")));
    browser.until("[...document.querySelectorAll('dd')].every((tile) => tile.textContent !== '–')");
    let label = browser.value("document.querySelector('.chart svg').getAttribute('aria-label')");
    assert!(label.as_str().unwrap().contains("shard 1: "), "{label}");
    // Every control has a name, and nothing is below the contrast that a theme promises to
    // have: both themes are other colours.
    let nameless = "[...document.querySelectorAll('button, input')].filter((one) =>
        !one.textContent && !one.getAttribute('aria-label') && !one.labels.length).length";
    assert_eq!(browser.value(nameless), json!(0));
    browser.picture(&picture("light.png"), true);
    let ground = "getComputedStyle(document.body).backgroundColor";
    let light = browser.value(ground);
    browser.look(1280, 900, "dark");
    assert_ne!(browser.value(ground), light);
    browser.picture(&picture("dark.png"), true);
    // The switch wins over the system.
    browser.value("document.getElementById('theme').click()");
    assert_eq!(browser.value(ground), light);
    browser.value("document.getElementById('theme').click()");
    assert_ne!(browser.value(ground), light);
    browser.look(360, 740, "dark");
    // Tables scroll by themselves; the page does not.
    let width = browser.value("document.scrollingElement.scrollWidth");
    assert_eq!(width, json!(360));
    browser.picture(&picture("phone.png"), true);
    assert_eq!(browser.errors, Vec::<String>::new());
    drop(browser);
    scene.end();
}

/// Names that would run, were they taken for HTML.
fn hostile(path: &str, _: Option<&str>) -> Option<(u16, String)> {
    let name = "<img src=x onerror=\"window.hit = 1\"><script>window.hit = 2</script>";
    let connection = |id: &str, client: &str, queued: u64| {
        json!({
            "id": id, "shard": 0, "address": name, "principal": name, "client_id": client,
            "age_s": 3.5, "messages_in": 1, "bytes_in": 2, "messages_out": 3, "bytes_out": 4,
            "queued_bytes": queued, "oldest_queued_ms": 5, "round_trip_us": null,
            "session": true, "state": "established",
        })
    };
    let answer = match path.split('?').next()? {
        "connections" => json!({
            "total": 9,
            "connections": [connection("0-1-1", name, 7), connection("0-2-1", "plain", 9)],
        }),
        "topics" => json!({
            "topics": [{"topic": name, "messages": 10, "error": 1}],
            "messages": 20, "sampled": 16,
        }),
        _ => return None,
    };
    Some((200, answer.to_string()))
}

#[test]
fn what_clients_name_themselves_is_shown_and_not_done() {
    let scene = Scene::start(None);
    let mut browser = Browser::start();
    browser.intercept(Some(hostile));
    browser.open(&format!("http://{}/", scene.admin));
    browser.until(&format!("{}.length === 2", rows("Connections")));
    browser.until(&format!("{}.length === 1", rows("Topics")));
    let text = "document.body.innerText.includes('<img src=x onerror=')";
    assert_eq!(browser.value(text), json!(true));
    let made = "document.querySelectorAll('img').length + document.scripts.length";
    assert_eq!(
        browser.value(made),
        json!(1),
        "an element was made of a name"
    );
    assert_eq!(browser.value("window.hit === undefined"), json!(true));
    // Nor does the policy let anything run that found a way in.
    browser.value("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 3'}))");
    assert_eq!(browser.value("window.hit === undefined"), json!(true));
    assert_eq!(browser.errors.len(), 1, "{:?}", browser.errors);
    assert!(browser.errors[0].contains("Content Security Policy"));
    sort_and_filter(&mut browser);
    browser.intercept(None);
    drop(browser);
    scene.end();
}

/// By keyboard as by mouse: they are buttons.
fn sort_and_filter(browser: &mut Browser) {
    let first = format!("{}[0].innerText.includes('plain')", rows("Connections"));
    browser.until(&first);
    let head = "[...document.querySelectorAll('th')].find((cell) => cell.textContent === 'queued')";
    assert_eq!(
        browser.value(&format!("{head}.getAttribute('aria-sort')")),
        json!("descending")
    );
    browser.value(&format!("{head}.querySelector('button').click()"));
    assert_eq!(
        browser.value(&format!("{head}.getAttribute('aria-sort')")),
        json!("ascending")
    );
    assert_eq!(browser.value(&first), json!(false));
    let filter = "document.querySelector('input[aria-label=\"Filter connections\"]')";
    browser.value(&format!(
        "{filter}.value = 'PLA'; {filter}.dispatchEvent(new Event('input'))"
    ));
    assert_eq!(
        browser.value(&format!("{}.length", rows("Connections"))),
        json!(1)
    );
    assert_eq!(browser.value(&first), json!(true));
    browser.until("document.body.innerText.includes('1 of 9')");
}

/// A server that wants a credential for everything but the page.
fn guarded(path: &str, credential: Option<&str>) -> Option<(u16, String)> {
    let refused = !path.is_empty() && credential != Some("Bearer op.right");
    let error = json!({"error": "this needs a credential; send one"});
    refused.then(|| (401, error.to_string()))
}

#[test]
fn a_credential_is_asked_for_and_a_server_that_is_gone_is_said() {
    let mut scene = Scene::start(None);
    let admin = scene.admin;
    let mut browser = Browser::start();
    browser.intercept(Some(guarded));
    browser.open(&format!("http://{admin}/"));
    browser.until("document.getElementById('trouble').textContent.includes('needs a credential')");
    browser.until("document.activeElement === document.getElementById('credential')");
    for (credential, serves) in [("op.wrong", false), ("op.right", true)] {
        browser.value(&format!(
            "document.getElementById('credential').value = '{credential}';
             document.querySelector('#access button').click()"
        ));
        let state = match serves {
            true => "serving",
            false => "no access",
        };
        browser.until(&format!(
            "document.getElementById('state').textContent === '{state}'"
        ));
    }
    browser.until(
        "document.getElementById('access').hidden && document.getElementById('trouble').hidden",
    );
    // Of this tab, and of nothing that outlives it.
    assert_eq!(
        browser.value("Object.values(sessionStorage).join()"),
        json!("op.right")
    );
    assert_eq!(
        browser.value("Object.values(localStorage).join()"),
        json!("")
    );
    browser.intercept(None);
    browser.until("document.getElementById('state').textContent === 'serving'");
    scene.end();
    browser.until("document.getElementById('state').textContent === 'no answer'");
    browser.until("document.getElementById('trouble').textContent.startsWith('No answer from the server since')");
    scene = Scene::start(Some(admin));
    browser.until("document.getElementById('state').textContent === 'serving'");
    assert_eq!(
        browser.value("document.getElementById('trouble').hidden"),
        json!(true)
    );
    drop(browser);
    scene.end();
}
