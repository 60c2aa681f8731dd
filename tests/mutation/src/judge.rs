//! Which mutants no test notices, and which tests notice no mutant.

use crate::project::{Mutant, Project};
use crate::suite::{Order, Outcome, Suite, run};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Tests of one suite that meet a mutant in one process; if all pass, the next ones.
const TESTS_AT_A_TIME: usize = 16;

pub struct Judge<'a> {
    pub project: &'a Project,
    pub suites: &'a [Suite],
    pub jobs: usize,
    /// Each run of a test with a mutant.
    runs: Mutex<HashMap<(usize, Named), Outcome>>,
}

/// A test: its suite, and its place there.
type Named = (usize, usize);

impl<'a> Judge<'a> {
    pub fn new(project: &'a Project, suites: &'a [Suite], jobs: usize) -> Judge<'a> {
        Judge {
            project,
            suites,
            jobs,
            runs: Mutex::default(),
        }
    }

    fn tests(&self) -> impl Iterator<Item = Named> {
        let sizes = self.suites.iter().map(|suite| suite.tests.len());
        sizes
            .enumerate()
            .flat_map(|(suite, count)| (0..count).map(move |test| (suite, test)))
    }

    fn test(&self, (suite, test): Named) -> &crate::suite::Test {
        &self.suites[suite].tests[test]
    }

    /// The tests that ask for each mutant, the quickest first.
    fn askers(&self) -> Vec<Vec<Named>> {
        let mut askers = vec![Vec::new(); self.project.mutants.len()];
        for test in self.tests().filter(|test| self.test(*test).passes) {
            for mutant in &self.test(test).reached {
                askers[*mutant].push(test);
            }
        }
        for tests in &mut askers {
            tests.sort_by_key(|test| self.test(*test).time);
        }
        askers
    }

    /// Runs tests of one suite with a mutant: true if one fails.
    fn meet(&self, mutant: usize, tests: &[Named]) -> io::Result<bool> {
        let Some((suite, _)) = tests.first() else {
            return Ok(false);
        };
        let names: Vec<_> = tests
            .iter()
            .map(|test| self.test(*test).name.as_str())
            .collect();
        let usual: Duration = tests.iter().map(|test| self.test(*test).time).sum();
        let order = Order {
            mutant: Some(mutant),
            limit: Duration::from_secs(10) + usual * 4,
            ..Order::default()
        };
        let outcomes = run(self.project, &self.suites[*suite], &names, &order)?;
        let mut runs = self.runs.lock().expect("no panic");
        let mut noticed = false;
        for test in tests {
            let outcome = outcomes[&self.test(*test).name];
            // Of several, nobody knows which has ended the process, or not ended.
            noticed |= outcome != Outcome::Passed;
            if outcome != Outcome::Unfinished || tests.len() == 1 {
                runs.insert((mutant, *test), outcome);
            }
        }
        Ok(noticed)
    }

    /// Of these mutants those that no test notices, with the number of tests that met them.
    pub fn survivors(
        &self,
        mutants: &[usize],
        time_max: Duration,
    ) -> io::Result<Vec<(usize, usize)>> {
        let askers = self.askers();
        let survivors = Mutex::new(Vec::new());
        self.each(mutants, |mutant| {
            let (mut met, mut time) = (0, Duration::ZERO);
            for suite in 0..self.suites.len() {
                let tests: Vec<_> = askers[mutant]
                    .iter()
                    .filter(|test| test.0 == suite)
                    .copied()
                    .collect();
                for some in tests.chunks(TESTS_AT_A_TIME) {
                    if time > time_max {
                        break;
                    }
                    time += some
                        .iter()
                        .map(|test| self.test(*test).time)
                        .sum::<Duration>();
                    met += some.len();
                    if self.meet(mutant, some)? {
                        return Ok(());
                    }
                }
            }
            survivors.lock().expect("no panic").push((mutant, met));
            Ok(())
        })?;
        let mut survivors = survivors.into_inner().expect("no panic");
        survivors.sort_unstable();
        Ok(survivors)
    }

    /// Tests that have not failed yet meet more mutants, those first that fewest tests ask for,
    /// until each has failed or met so many.
    pub fn unmoved(&self, tries: usize) -> io::Result<Vec<(Named, usize)>> {
        let askers = self.askers();
        let failed: HashSet<Named> = {
            let runs = self.runs.lock().expect("no panic");
            runs.iter()
                .filter(|(_, outcome)| **outcome != Outcome::Passed)
                .map(|((_, test), _)| *test)
                .collect()
        };
        let left: Vec<Named> = self
            .tests()
            .filter(|test| self.test(*test).passes && !failed.contains(test))
            .collect();
        let unmoved = Mutex::new(Vec::new());
        let indices: Vec<usize> = (0..left.len()).collect();
        self.each(&indices, |index| {
            let test = left[index];
            let mut mutants = self.test(test).reached.clone();
            fastrand::Rng::with_seed(index as u64).shuffle(&mut mutants);
            let mutant = |mutant: &usize| &self.project.mutants[*mutant];
            mutants.sort_by_key(|number| (askers[*number].len(), !mutant(number).kind.is_crude()));
            // Half of them its own, half of all it asks for: that of others may tell more.
            let mut all: Vec<usize> = mutants.iter().take(tries / 2).copied().collect();
            let crude: Vec<usize> = mutants
                .into_iter()
                .skip(tries / 2)
                .filter(|number| mutant(number).kind.is_crude())
                .collect();
            let step = (crude.len() / (tries - tries / 2)).max(1);
            all.extend(crude.into_iter().step_by(step));
            for number in &all {
                if self.meet(*number, &[test])? {
                    return Ok(());
                }
            }
            eprintln!(
                "scripts/mutate: {}: not by {} mutants",
                self.name(test),
                all.len()
            );
            unmoved.lock().expect("no panic").push((test, all.len()));
            Ok(())
        })?;
        let mut unmoved = unmoved.into_inner().expect("no panic");
        unmoved.sort_unstable();
        Ok(unmoved)
    }

    fn each(&self, all: &[usize], work: impl Fn(usize) -> io::Result<()> + Sync) -> io::Result<()> {
        let next = AtomicUsize::new(0);
        let worker = || -> io::Result<()> {
            while let index = next.fetch_add(1, Ordering::Relaxed)
                && let Some(one) = all.get(index)
            {
                if index % 50 == 0 && index > 0 {
                    eprintln!("scripts/mutate: {index} of {}", all.len());
                }
                work(*one)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs).map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("a worker"))
        })
    }

    pub fn name(&self, test: Named) -> String {
        format!("{} {}", self.suites[test.0].name, self.test(test).name)
    }

    /// All runs, a line each: mutant, test, outcome.
    pub fn matrix(&self) -> String {
        let runs = self.runs.lock().expect("no panic");
        let mut all: Vec<_> = runs.iter().collect();
        all.sort_unstable_by_key(|(key, _)| **key);
        let mut text = String::new();
        for ((mutant, test), outcome) in all {
            let _ = writeln!(
                text,
                "{mutant}\t{}\t{}\t{outcome:?}",
                told(&self.project.mutants[*mutant]),
                self.name(*test)
            );
        }
        text
    }
}

pub fn told(mutant: &Mutant) -> String {
    format!("{}:{}: {}", mutant.path, mutant.line, mutant.change)
}
