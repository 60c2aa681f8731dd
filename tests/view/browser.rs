//! Chromium without a window, spoken to by the DevTools protocol over a pair of pipes:
//! JSON objects, each ended by a zero byte.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// For whatever a busy machine needs; nothing here is to take long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers in the server's place: path and query, and the credential that is shown; `None`
/// leaves it to the server.
pub type Instead = fn(path: &str, credential: Option<&str>) -> Option<(u16, String)>;

pub struct Browser {
    child: Child,
    to: File,
    from: Receiver<Value>,
    session: String,
    sent: u64,
    /// What the page logged as an error, or threw.
    pub errors: Vec<String>,
    instead: Option<Instead>,
    _directory: tempfile::TempDir,
}

impl Browser {
    pub fn start() -> Browser {
        let directory = tempfile::tempdir().unwrap();
        let pipe = |name: &str| {
            let path = directory.path().join(name);
            let made = Command::new("mkfifo").arg(&path).status().unwrap();
            assert!(made.success());
            // For both directions: opening waits for nobody.
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap()
        };
        let (to, from) = (pipe("to"), pipe("from"));
        let child = Command::new("sh")
            .args([
                "-c",
                "command -v chromium >/dev/null || exit 127; exec chromium \"$@\" 3<to 4>from",
                "sh",
            ])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--no-first-run",
                "--hide-scrollbars",
                "--disable-background-networking",
            ])
            .args([
                "--remote-debugging-pipe",
                "--user-data-dir=profile",
                "about:blank",
            ])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            for object in BufReader::new(from).split(0) {
                let object = serde_json::from_slice(&object.unwrap()).unwrap();
                if tell.send(object).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser {
            child,
            to,
            from: heard,
            session: String::new(),
            sent: 0,
            errors: Vec::new(),
            instead: None,
            _directory: directory,
        };
        browser.attach();
        browser
    }

    fn attach(&mut self) {
        let target = self.call("Target.createTarget", json!({"url": "about:blank"}));
        let asked = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", asked);
        self.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
    }

    fn send(&mut self, method: &str, params: Value) -> u64 {
        self.sent += 1;
        let mut call = json!({"id": self.sent, "method": method, "params": params});
        if !self.session.is_empty() {
            call["sessionId"] = json!(self.session);
        }
        self.to.write_all(format!("{call}\0").as_bytes()).unwrap();
        self.sent
    }

    /// Calls, and hears what happens until it is answered.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        let end = Instant::now() + PATIENCE;
        loop {
            let heard = self.from.recv_timeout(Duration::from_millis(200));
            let ended = self.child.try_wait().unwrap();
            assert_ne!(
                ended.and_then(|status| status.code()),
                Some(127),
                "chromium is not installed; apt-get install chromium (.ci/run does)"
            );
            assert!(ended.is_none(), "chromium ended: {ended:?}");
            match heard {
                Ok(answer) if answer["id"] == id => {
                    assert!(answer["error"].is_null(), "{method}: {answer}");
                    return answer["result"].clone();
                }
                Ok(event) => self.hear(&event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(error) => panic!("chromium says no more: {error}"),
            }
            assert!(Instant::now() < end, "chromium does not answer {method}");
        }
    }

    fn hear(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.errors.push(params.to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.errors.push(params.to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.errors.push(params["entry"].to_string());
            }
            Some("Fetch.requestPaused") => self.answer(params),
            _ => {}
        }
    }

    fn answer(&mut self, paused: &Value) {
        let request = &paused["request"];
        let url = request["url"].as_str().unwrap();
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        let credential = request["headers"]["Authorization"].as_str();
        let id = &paused["requestId"];
        match self.instead.and_then(|instead| instead(path, credential)) {
            None => self.send("Fetch.continueRequest", json!({"requestId": id})),
            Some((status, body)) => {
                let header = json!({"name": "Content-Type", "value": "application/json"});
                let answer = json!({
                    "requestId": id, "responseCode": status,
                    "responseHeaders": [header], "body": STANDARD.encode(body),
                });
                self.send("Fetch.fulfillRequest", answer)
            }
        };
    }

    /// From now on `instead` answers what it wants to.
    pub fn intercept(&mut self, instead: Option<Instead>) {
        self.instead = instead;
        match instead {
            Some(_) => self.call("Fetch.enable", json!({})),
            None => self.call("Fetch.disable", json!({})),
        };
    }

    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", asked);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true; while the page is loading it may fail.
    pub fn until(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        let expression =
            &format!("(() => {{ try {{ return {expression} }} catch {{ return false }} }})()");
        while self.value(expression) != json!(true) {
            if Instant::now() > end {
                let text = self.value("document.body.innerText");
                panic!(
                    "never: {expression}\n{}\n{:?}",
                    text.as_str().unwrap(),
                    self.errors
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The window's size in points, and the theme that the system prefers.
    pub fn look(&mut self, width: u32, height: u32, theme: &str) {
        let mobile = width < 500;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let feature = json!({"name": "prefers-color-scheme", "value": theme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// A picture of the window, or of all of the page.
    pub fn picture(&mut self, path: &Path, whole: bool) {
        let asked = json!({"format": "png", "captureBeyondViewport": whole});
        let answer = self.call("Page.captureScreenshot", asked);
        let picture = STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        assert!(picture.starts_with(b"\x89PNG"));
        std::fs::write(path, picture).unwrap();
        println!("picture: {}", path.display());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
