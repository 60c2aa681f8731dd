//! Keeps a key set up to date: fetched at the start and again before it expires, never more than
//! once in [`GAP`], however many tokens need it.
//!
//! ```text
//!   fetch ─ ok ──► wait max-age (60 s … 1 day; 300 s if none is said) ─┐
//!     ▲  └ failed ► wait 30 s; what is held counts on for 24 h         │
//!     └────────────◄── a token brought an unknown key: 30 s after ─────┘
//!                      the last fetch began, however many there were
//! ```
//!
//! An unknown key that a token names does not exist once a fetch that started after the token
//! was presented has not found it; until then this is undecided.
//!
//! After a failed fetch the previous keys stay in use: a provider's outage ends nobody's access
//! for [`STALE_MAX`]. Then the keys are dropped, since one that was withdrawn meanwhile must not
//! stay valid forever.
//!
//! A file (`watch_file`) is read when it changes, and stays in use until it is replaced. If it
//! cannot be read, or is not a key set, reading is retried until it succeeds.

use super::wanted::Wanted;
use crate::base::file;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// The least time between the starts of two fetches.
pub const GAP: Duration = Duration::from_secs(30);
/// How long keys stay in use without being confirmed by a fetch.
pub const STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Bounds of `Cache-Control: max-age`, and the default without it.
const AGE_MIN: Duration = Duration::from_secs(60);
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);
const AGE_DEFAULT: Duration = Duration::from_secs(300);
/// Bytes of a key set: some hundred keys.
pub const BYTES_MAX: usize = 256 << 10;
/// How often a file is checked for changes.
const LOOK: Duration = Duration::from_secs(1);

/// Receives fetched key sets.
pub trait Take {
    /// Returns what it contains, or why it is not a key set. `None`: there are no valid keys any
    /// more.
    fn take(&self, json: Option<&[u8]>) -> Result<Summary, String>;

    /// Reports that the set has no keys with these names, but may still deliver others.
    fn settle(&self, absent: HashSet<Box<str>>);
}

/// A summary of a key set, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub text: String,
    /// Tokens can be verified by it.
    pub is_usable: bool,
    /// It has keys that cannot be used here.
    pub leaves_out: bool,
}

/// Logs what the key set of `name` contains.
pub fn report(name: &str, summary: &Summary) {
    let text = &summary.text;
    match summary.is_usable {
        true => tracing::info!("the key set of {name}: {text}"),
        false => tracing::warn!(
            "the key set of {name} verifies nothing: {text}; tokens signed by its keys are \
             denied: compare auth.jwt.algorithms with the algorithms that the provider signs \
             with"
        ),
    }
}

/// The result of a fetch.
pub struct Fetched {
    /// `None`: it has not changed since the one with the `etag` that was sent.
    pub json: Option<Vec<u8>>,
    pub etag: Option<String>,
    pub max_age: Option<Duration>,
}

/// Where a key set is fetched from.
pub trait Origin {
    /// Its name in the log, without secrets.
    fn name(&self) -> &str;

    /// Fetches it unless `etag` says that it has not changed.
    ///
    /// # Errors
    /// Why it failed, for the log.
    fn fetch(&self, etag: Option<&str>) -> impl Future<Output = Result<Fetched, String>>;
}

/// Keeps the key set of `origin` up to date, forever. `wanted` are unknown keys that tokens have
/// named. `first` is called when the first fetch has succeeded or failed.
pub async fn keep(
    origin: impl Origin,
    taker: impl Take,
    wanted: Arc<Wanted>,
    first: impl FnOnce(),
) {
    let mut watcher = Watcher {
        origin,
        taker,
        etag: None,
        confirmed: None,
    };
    let mut first = Some(first);
    loop {
        let began = Instant::now();
        let rest = watcher.fetch(began, &wanted).await;
        if let Some(first) = first.take() {
            first();
        }
        watcher.rest(began, began + rest, &wanted).await;
    }
}

struct Watcher<O, T> {
    origin: O,
    taker: T,
    /// The ETag of the keys in use.
    etag: Option<String>,
    /// When the keys in use were last confirmed; `None`: there are none.
    confirmed: Option<Instant>,
}

impl<O: Origin, T: Take> Watcher<O, T> {
    /// Fetches once; returns how long to wait before the next time.
    async fn fetch(&mut self, now: Instant, wanted: &Wanted) -> Duration {
        let name = self.origin.name();
        let asked = wanted.take();
        let fetched = match self.origin.fetch(self.etag.as_deref()).await {
            Ok(fetched) => fetched,
            Err(cause) => return self.failed(&cause),
        };
        match fetched.json {
            None => tracing::debug!("the key set of {name} has not changed"),
            Some(json) => match self.taker.take(Some(&json)) {
                Ok(summary) => {
                    report(name, &summary);
                    self.etag = fetched.etag;
                }
                Err(cause) => return self.failed(&cause),
            },
        }
        self.taker.settle(asked);
        self.confirmed = Some(now);
        let age = fetched.max_age.unwrap_or(AGE_DEFAULT);
        age.clamp(AGE_MIN, AGE_MAX)
    }

    fn failed(&self, cause: &str) -> Duration {
        let name = self.origin.name();
        let meanwhile = match self.confirmed {
            Some(_) => "the keys fetched before stay valid for 24 h",
            None => "tokens signed by its keys cannot be checked (UNAVAILABLE)",
        };
        tracing::warn!("no key set from {name}: {cause}; {meanwhile}; trying again in 30 s");
        GAP
    }

    /// Waits until `due`, or until a fetch is wanted and allowed; drops keys that are too old.
    async fn rest(&mut self, began: Instant, due: Instant, wanted: &Wanted) {
        let on_demand = async {
            sleep_until(began + GAP).await;
            wanted.came().await;
        };
        tokio::pin!(on_demand);
        loop {
            let stale = self.confirmed.map(|at| at + STALE_MAX);
            tokio::select! {
                () = &mut on_demand => return,
                () = sleep_until(due.max(began + GAP)) => return,
                () = sleep_until(stale.unwrap_or(due)), if stale.is_some_and(|at| at < due) => {
                    self.drop_all();
                }
            }
        }
    }

    fn drop_all(&mut self) {
        let name = self.origin.name();
        tracing::error!(
            "no key set from {name} for 24 h: its keys are no longer used; tokens signed by \
             them cannot be checked (UNAVAILABLE) until it has been fetched again"
        );
        self.confirmed = None;
        self.etag = None;
        // Dropping the keys cannot fail.
        let _ = self.taker.take(None);
    }
}

/// A key set in a file.
pub struct KeyFile {
    path: PathBuf,
    seen: Option<Stamp>,
}

/// What changes when a file does: inode, bytes, modification time.
type Stamp = (u64, u64, i64, i64);

impl KeyFile {
    pub fn new(path: impl Into<PathBuf>) -> KeyFile {
        KeyFile {
            path: path.into(),
            seen: None,
        }
    }

    /// The file's content, if it may have changed since it was last read.
    ///
    /// # Errors
    /// If it cannot be read; the next call tries again.
    pub fn read_changed(&mut self) -> io::Result<Option<Vec<u8>>> {
        // Taken before the file is read, so that a change in between is seen the next time.
        let data = fs::metadata(&self.path)?;
        let stamp = (data.ino(), data.size(), data.mtime(), data.mtime_nsec());
        if self.seen == Some(stamp) {
            return Ok(None);
        }
        let json = file::read(&self.path, BYTES_MAX as u64)?;
        self.seen = Some(stamp);
        Ok(Some(json))
    }
}

/// Rereads a file when it changes, forever. Its previous content stays in use while it cannot be
/// read.
pub async fn watch_file(mut file: KeyFile, taker: impl Take) {
    let mut failure = None;
    loop {
        sleep(LOOK).await;
        let name = file.path.display().to_string();
        let taken = match file.read_changed() {
            Ok(None) => continue,
            Ok(Some(json)) => taker.take(Some(&json)),
            Err(error) => Err(error.to_string()),
        };
        match taken {
            Ok(summary) => {
                report(&name, &summary);
                failure = None;
            }
            Err(cause) => {
                // The cause may be fixed without a visible change of the file.
                file.seen = None;
                // Meanwhile it is not known whether a missing key exists.
                taker.settle(HashSet::new());
                if failure.as_ref() != Some(&cause) {
                    tracing::warn!(
                        "no key set from {name}: {cause}; the keys read before stay in use; \
                         trying again every second"
                    );
                }
                failure = Some(cause);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    /// Answers as configured, and counts.
    #[derive(Default)]
    struct Provider {
        fetches: Cell<usize>,
        etags: RefCell<Vec<Option<String>>>,
        /// The set, with what it is called; `None`: out of order.
        set: RefCell<Option<&'static str>>,
        max_age: Cell<Option<u64>>,
    }

    impl Origin for Rc<Provider> {
        fn name(&self) -> &str {
            "the test"
        }

        async fn fetch(&self, etag: Option<&str>) -> Result<Fetched, String> {
            self.fetches.set(self.fetches.get() + 1);
            self.etags.borrow_mut().push(etag.map(str::to_owned));
            let set = self.set.borrow().ok_or("out of order")?;
            let is_same = etag == Some(set);
            Ok(Fetched {
                json: (!is_same).then(|| set.as_bytes().to_vec()),
                etag: Some(set.to_owned()),
                max_age: self.max_age.get().map(Duration::from_secs),
            })
        }
    }

    /// What is held, one after the other.
    #[derive(Clone, Default)]
    struct Taken(
        Rc<RefCell<Vec<Option<String>>>>,
        Rc<Cell<bool>>,
        /// What is known to be absent, once that was said.
        Rc<RefCell<Option<HashSet<Box<str>>>>>,
    );

    impl Take for Taken {
        fn take(&self, json: Option<&[u8]>) -> Result<Summary, String> {
            let text = json.map(|json| String::from_utf8(json.to_vec()).expect("text"));
            if text.as_deref() == Some("bad") || self.1.get() {
                return Err("no key set".to_owned());
            }
            self.0.borrow_mut().push(text);
            Ok(Summary {
                text: "keys".to_owned(),
                is_usable: true,
                leaves_out: false,
            })
        }

        fn settle(&self, absent: HashSet<Box<str>>) {
            *self.2.borrow_mut() = Some(absent);
        }
    }

    struct Fixture {
        provider: Rc<Provider>,
        taken: Taken,
        wanted: Arc<Wanted>,
        /// The first fetch has ended.
        ready: Cell<bool>,
    }

    /// Keeps a set while `script` runs, on a clock that advances only while all tasks wait.
    async fn with(
        set: Option<&'static str>,
        max_age: Option<u64>,
        script: impl AsyncFnOnce(&Fixture),
    ) {
        let fixture = Fixture {
            provider: Rc::default(),
            taken: Taken::default(),
            wanted: Arc::default(),
            ready: Cell::default(),
        };
        *fixture.provider.set.borrow_mut() = set;
        fixture.provider.max_age.set(max_age);
        let (provider, taken) = (fixture.provider.clone(), fixture.taken.clone());
        tokio::select! {
            biased;
            () = keep(provider, taken, fixture.wanted.clone(), || fixture.ready.set(true)) => {
                panic!("it ended")
            }
            () = script(&fixture) => {}
        }
    }

    const DAY: Option<u64> = Some(86_400);

    async fn seconds(count: u64) {
        sleep(Duration::from_secs(count)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_unknown_keys_cost_one_fetch_in_30_s() {
        with(Some("a"), DAY, async |fixture| {
            let count = || fixture.provider.fetches.get();
            sleep(Duration::from_millis(1)).await;
            assert_eq!(count(), 1);
            let began = Instant::now();
            for count in 0..10_000 {
                fixture.wanted.want("unknown");
                if count % 10 == 0 {
                    sleep(Duration::from_millis(25)).await;
                }
            }
            assert!(began.elapsed() < Duration::from_secs(29));
            assert_eq!(count(), 1, "again within 30 s of the first");
            seconds(10).await;
            assert_eq!(count(), 2, "the unknown key was never asked for");
            for _ in 0..10_000 {
                fixture.wanted.want("unknown");
                sleep(Duration::from_millis(30)).await;
            }
            // 300 s more.
            assert!((11..=12).contains(&count()), "{} fetches", count());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_fetched_again_at_its_age_within_bounds() {
        let rows = [
            (None, 300),
            (Some(0), 60),
            (Some(90), 90),
            (Some(1 << 40), 86_400),
        ];
        for (max_age, period) in rows {
            with(Some("a"), max_age, async |fixture| {
                seconds(period - 1).await;
                assert_eq!(fixture.provider.fetches.get(), 1, "{max_age:?}");
                seconds(2).await;
                assert_eq!(fixture.provider.fetches.get(), 2, "{max_age:?}");
                // Unchanged by its ETag, so not taken twice.
                let etags = fixture.provider.etags.borrow();
                assert_eq!(*etags, [None, Some("a".to_owned())]);
                assert_eq!(fixture.taken.0.borrow().len(), 1);
            })
            .await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotated_set_is_taken() {
        with(Some("a"), DAY, async |fixture| {
            seconds(40).await;
            *fixture.provider.set.borrow_mut() = Some("b");
            fixture.wanted.want("unknown");
            seconds(1).await;
            let taken = fixture.taken.0.borrow();
            assert_eq!(*taken, [Some("a".to_owned()), Some("b".to_owned())]);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_survived_for_a_day_and_no_longer() {
        with(Some("a"), Some(60), async |fixture| {
            seconds(1).await;
            *fixture.provider.set.borrow_mut() = None;
            seconds(24 * 3600 - 3).await;
            assert_eq!(*fixture.taken.0.borrow(), [Some("a".to_owned())]);
            // Every 30 s after the first minute.
            assert!((2870..=2881).contains(&fixture.provider.fetches.get()));
            seconds(4).await;
            assert_eq!(*fixture.taken.0.borrow(), [Some("a".to_owned()), None]);
            // The provider is back: it sends the whole set, not "unchanged".
            *fixture.provider.set.borrow_mut() = Some("a");
            seconds(31).await;
            assert_eq!(fixture.taken.0.borrow().last(), Some(&Some("a".to_owned())));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_starts_without_the_provider_and_rejects_an_invalid_key_set() {
        with(None, DAY, async |fixture| {
            seconds(31).await;
            assert_eq!(fixture.provider.fetches.get(), 2);
            *fixture.provider.set.borrow_mut() = Some("bad");
            seconds(30).await;
            assert!(fixture.taken.0.borrow().is_empty());
            *fixture.provider.set.borrow_mut() = Some("a");
            seconds(30).await;
            assert_eq!(*fixture.taken.0.borrow(), [Some("a".to_owned())]);
            assert_eq!(
                fixture.provider.etags.borrow().last(),
                Some(&None),
                "of a bad one"
            );
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_absent_once_a_fetch_for_it_has_not_found_it() {
        with(None, DAY, async |fixture| {
            let absent = || fixture.taken.2.borrow().clone();
            assert!(fixture.ready.get(), "it has failed, and that is an answer");
            assert_eq!(absent(), None, "of a set nobody has seen");
            fixture.wanted.want("k");
            *fixture.provider.set.borrow_mut() = Some("a");
            seconds(30).await;
            assert_eq!(absent(), Some(["k".into()].into()));
            // Unchanged, but asked for another.
            fixture.wanted.want("other");
            seconds(30).await;
            assert_eq!(fixture.taken.0.borrow().len(), 1);
            assert_eq!(absent(), Some(["other".into()].into()));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_when_it_changes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys.json");
        let put = |text: &str| {
            // As editors and deployments do, another file takes its place.
            let new = directory.path().join("new");
            fs::write(&new, text).expect("written");
            fs::rename(new, &path).expect("moved");
        };
        put("a");
        let mut file = KeyFile::new(&path);
        assert_eq!(file.read_changed().expect("read"), Some(b"a".to_vec()));
        let taken = Taken::default();
        let script = async {
            seconds(5).await;
            assert!(taken.0.borrow().is_empty(), "it has not changed");
            put("b");
            seconds(2).await;
            put("bad");
            seconds(2).await;
            fs::remove_file(&path).expect("removed");
            seconds(2).await;
            assert_eq!(*taken.0.borrow(), [Some("b".to_owned())]);
            put("c");
            seconds(2).await;
            assert_eq!(taken.0.borrow().last(), Some(&Some("c".to_owned())));
            // Not taken at first, and then it is, though the file has not changed.
            taken.1.set(true);
            put("d");
            seconds(2).await;
            taken.1.set(false);
            seconds(2).await;
            let all = ["b", "c", "d"].map(|text| Some(text.to_owned()));
            assert_eq!(*taken.0.borrow(), all, "once each");
        };
        tokio::select! {
            () = watch_file(file, taken.clone()) => panic!("it ended"),
            () = script => {}
        }
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let mut file = KeyFile::new("/dev/zero");
        // Each time, since a failed read is retried.
        for _ in 0..2 {
            let error = file.read_changed().expect_err("endless");
            assert!(error.to_string().contains("too large"), "{error}");
        }
    }
}
