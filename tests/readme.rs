//! README and OPERATING as a new user would follow them: each block is pasted as it stands, one
//! section after the other, in a fresh directory for each page, and what it shows is what comes.
//!
//! The blocks use the default ports, so all of it runs in a network namespace of its own (as
//! root, or with user namespaces allowed). Numbers in what is shown stand for any number. A
//! block that no line of [`PAGES`] speaks of fails the test, as does a line without its block.
//!
//! What OPERATING's tables say that the program says is looked for in its source.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, kill_process_group, set_child_subreaper, waitpgid,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Only turns what hangs into a failure.
const HANG: Duration = Duration::from_secs(120);
/// Ends what one command has printed; the number behind it is its exit status.
const MARK: &str = "-- exit status ";

enum Block {
    /// Commands in a terminal, each of which ends, and what they print.
    Typed,
    /// One command in a terminal that goes on; what it prints first.
    Left(Terminal),
    /// What the terminal of a command that goes on has printed meanwhile.
    Shown(Terminal),
    /// A script, its exit status, and words that it prints.
    Pasted(i32, &'static [&'static str]),
    /// Not tried here, and why.
    Untried(&'static str),
}

/// The terminals of a section, by what runs in them.
#[derive(Clone, Copy, PartialEq)]
enum Terminal {
    Server,
    Subscriber,
}

use Block::{Left, Pasted, Shown, Typed, Untried};

/// A page, and of each section that has blocks its blocks in their order.
struct Page {
    path: &'static str,
    sections: &'static [(&'static str, &'static [Block])],
    /// Sections that speak of a server as they found it, running.
    served: &'static [&'static str],
}

const PAGES: &[Page] = &[
    Page {
        path: "README.md",
        sections: &[
            (
                "Two commands",
                &[Untried("this is the second of them, the first builds")],
            ),
            (
                "A first conversation",
                &[
                    Left(Terminal::Server),
                    Left(Terminal::Subscriber),
                    Typed,
                    Shown(Terminal::Subscriber),
                    Typed,
                    Typed,
                ],
            ),
            (
                "A service of your own",
                &[Untried("a program: the guide's run as tests")],
            ),
            (
                "A client of your own",
                &[Untried("part of a program: the guide's run as tests")],
            ),
            ("JSON outside, protobuf inside", &[Pasted(0, &[]), Typed]),
        ],
        served: &[],
    },
    Page {
        path: "tuning/OPERATING.md",
        sections: &[
            (
                "Install it as a service",
                &[Untried("it changes the host, as root")],
            ),
            ("Configure it", &[Typed]),
            ("Tuning profiles", &[Typed]),
            (
                "TLS",
                &[Pasted(0, &["3 sent, 3 received", "CONNECTION ESTABLISHED"])],
            ),
            (
                "Keys, tokens and rights",
                &[
                    Pasted(77, &["FORBIDDEN"]),
                    Pasted(0, &["ringmail::shard=debug", "forget_at"]),
                ],
            ),
            ("Topics with a schema", &[Pasted(0, &["shards {"])]),
            (
                "See it",
                &[
                    Pasted(0, &["ok", "ringmail_connections", "Shards"]),
                    Pasted(0, &[]),
                ],
            ),
            (
                "Limits and the memory budget",
                &[Untried("a line of the log: the sum is the host's")],
            ),
        ],
        served: &["Topics with a schema", "See it"],
    },
];

/// A fenced block of a page.
struct Fence {
    section: String,
    text: String,
}

fn fences(path: &str) -> Vec<Fence> {
    let page = fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
    let (mut section, mut open, mut found) = (String::new(), None::<String>, Vec::new());
    for line in page.lines() {
        match (&mut open, line.starts_with("```")) {
            (Some(_), true) => found.push(Fence {
                section: section.clone(),
                text: open.take().unwrap_or_default(),
            }),
            (Some(text), false) => *text += &format!("{line}\n"),
            (None, true) => open = Some(String::new()),
            (None, false) => {
                if let Some(heading) = line.strip_prefix("## ") {
                    section = heading.to_owned();
                }
            }
        }
    }
    found
}

/// Whether a line is what was shown, numbers aside.
fn is_alike(shown: &str, line: &str) -> bool {
    let plain = |text: &str| {
        let mut plain = String::new();
        for c in text.trim_end().chars() {
            match c.is_ascii_digit() {
                true if plain.ends_with('0') => {}
                true => plain.push('0'),
                false => plain.push(c),
            }
        }
        plain
    };
    plain(shown) == plain(line)
}

/// A shell whose commands are typed one after the other.
struct Shell {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Shell {
    fn open(directory: &Path) -> Shell {
        let mut child = bash(directory)
            .arg("-s")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let (line, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for read in output.lines().map_while(Result::ok) {
                if line.send(read).is_err() {
                    return;
                }
            }
        });
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"exec 2>&1\n").unwrap();
        Shell {
            child,
            input,
            lines,
        }
    }

    fn line(&self, after: &str) -> String {
        let line = self.lines.recv_timeout(HANG);
        line.unwrap_or_else(|_| panic!("no further line after {after:?}"))
    }

    /// Types a command that ends, as at a terminal that nobody types on.
    fn run(&mut self, command: &str) -> (String, Vec<String>) {
        let typed = format!("{{ {command}\n}} </dev/null\necho '{MARK}'$?\n");
        self.input.write_all(typed.as_bytes()).unwrap();
        let mut printed = Vec::new();
        loop {
            let line = self.line(command);
            match line.split_once(MARK) {
                // The mark stands behind what has no newline at its end.
                Some((rest, status)) => {
                    if !rest.is_empty() {
                        printed.push(rest.to_owned());
                    }
                    return (status.to_owned(), printed);
                }
                None => printed.push(line),
            }
        }
    }

    fn leave(&mut self, command: &str) {
        let typed = format!("{command} </dev/null &\n");
        self.input.write_all(typed.as_bytes()).unwrap();
    }

    /// Ends what runs in it, as Ctrl-C and closing the terminal do, and waits for it.
    fn close(self) {
        drop(self.input);
        let group = Pid::from_child(&self.child);
        kill_process_group(group, Signal::TERM).unwrap();
        while let Ok(Some(_)) = waitpgid(group, WaitOptions::empty()) {}
    }
}

fn bash(directory: &Path) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_ringmail"));
    let paths = std::env::var("PATH").unwrap();
    let mut command = Command::new("bash");
    command
        .args(["--norc", "--noprofile"])
        .current_dir(directory)
        .env("HOME", directory)
        .env(
            "PATH",
            format!("{}:{paths}", binary.parent().unwrap().display()),
        )
        .env_remove("XDG_STATE_HOME");
    command
}

/// What is typed and what is shown of each command of a block: `$ command`, then its output.
fn commands(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command, Vec::new())),
            (None, Some((_, shown))) => shown.push(line),
            (None, None) => panic!("a block that begins with no command: {text}"),
        }
    }
    // Blank lines stand between commands.
    for (_, shown) in &mut commands {
        while shown.last() == Some(&"") {
            shown.pop();
        }
    }
    commands
}

/// The shells of a section.
struct Section<'d> {
    directory: &'d Path,
    typing: Shell,
    left: Vec<(Terminal, Shell)>,
    pasted: Vec<Child>,
}

impl Section<'_> {
    fn try_block(&mut self, block: &Block, text: &str) {
        match block {
            Untried(why) => println!("  not tried: {why}"),
            Left(terminal) => {
                let mut shell = Shell::open(self.directory);
                let [(command, shown)] = &commands(text)[..] else {
                    panic!("one command goes on: {text}");
                };
                shell.leave(command);
                match shown[..] {
                    // A server says where it listens, among other things.
                    [] => while !shell.line(command).contains("listening on ") {},
                    _ => expect(&shell, command, shown),
                }
                self.left.push((*terminal, shell));
            }
            Shown(terminal) => {
                let mut left = self.left.iter();
                let (_, shell) = left.find(|(other, _)| other == terminal).unwrap();
                expect(shell, "what went before", &text.lines().collect::<Vec<_>>());
            }
            Typed => {
                for (command, shown) in commands(text) {
                    let (status, mut printed) = self.typing.run(command);
                    if command.ends_with('&') {
                        while printed.len() < shown.len() {
                            printed.push(self.typing.line(command));
                        }
                    }
                    assert_eq!(status, "0", "{command}:\n{}", printed.join("\n"));
                    // Where the page shows nothing it says so, or there is too much to show.
                    if !shown.is_empty() {
                        let same = shown.len() == printed.len()
                            && shown.iter().zip(&printed).all(|(a, b)| is_alike(a, b));
                        assert!(
                            same,
                            "{command} shows\n{}\nbut printed\n{}",
                            shown.join("\n"),
                            printed.join("\n")
                        );
                    }
                }
            }
            Pasted(status, words) => {
                let path = self.directory.join("pasted");
                let output = fs::File::create(&path).unwrap();
                let script = text.replace("\n$ ", "\n");
                let mut child = bash(self.directory)
                    .args(["-c", script.strip_prefix("$ ").unwrap_or(&script)])
                    .stdin(Stdio::null())
                    .stdout(output.try_clone().unwrap())
                    .stderr(output)
                    .process_group(0)
                    .spawn()
                    .unwrap();
                let ended = child.wait().unwrap();
                let printed = fs::read_to_string(&path).unwrap();
                assert_eq!(ended.code(), Some(*status), "{text}\nprinted\n{printed}");
                for word in *words {
                    assert!(printed.contains(word), "no {word:?} in\n{printed}");
                }
                self.pasted.push(child);
            }
        }
    }

    fn close(self) {
        self.typing.close();
        for (_, shell) in self.left {
            shell.close();
        }
        for child in self.pasted {
            let group = Pid::from_child(&child);
            // Nothing of it may have been left running.
            let _ = kill_process_group(group, Signal::TERM);
            while let Ok(Some(_)) = waitpgid(group, WaitOptions::empty()) {}
        }
    }
}

fn expect(shell: &Shell, command: &str, shown: &[&str]) {
    for wanted in shown {
        let line = shell.line(command);
        assert!(
            is_alike(wanted, &line),
            "{command}: {line:?}, not {wanted:?}"
        );
    }
}

/// Run by the test below, where the default ports are nobody else's.
#[test]
#[ignore = "needs a network of its own: see every_block_works_as_pasted"]
fn in_a_network_of_its_own() {
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("ip, of Debian's iproute2").success());
    // Servers that a pasted block leaves running are waited for here.
    set_child_subreaper(Some(Pid::INIT)).unwrap();
    PAGES.iter().for_each(try_page);
}

fn try_page(page: &Page) {
    let directory = tempfile::tempdir().unwrap();
    // As in a clone of the project.
    for part in ["src", "tests", "tuning", "scripts"] {
        symlink(Path::new(ROOT).join(part), directory.path().join(part)).unwrap();
    }
    let fences = fences(page.path);
    for (name, blocks) in page.sections {
        println!("{}: {name}", page.path);
        let texts: Vec<_> = fences
            .iter()
            .filter(|fence| fence.section == *name)
            .collect();
        assert_eq!(texts.len(), blocks.len(), "blocks of {name:?}");
        let mut section = Section {
            directory: directory.path(),
            typing: Shell::open(directory.path()),
            left: Vec::new(),
            pasted: Vec::new(),
        };
        if page.served.contains(name) {
            section.try_block(&Left(Terminal::Server), "$ ringmail serve");
        }
        for (block, fence) in blocks.iter().zip(texts) {
            section.try_block(block, &fence.text);
        }
        section.close();
    }
}

#[test]
fn every_block_works_as_pasted() {
    for page in PAGES {
        for Fence { section, .. } in fences(page.path) {
            let known = page.sections.iter().any(|(name, _)| *name == section);
            assert!(known, "{}: {section:?} is not in PAGES", page.path);
        }
    }
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let test = std::env::current_exe().unwrap();
    let ended = command
        .arg(test)
        .args([
            "--exact",
            "in_a_network_of_its_own",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .expect("unshare, of util-linux");
    let (out, errors) = (
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    );
    assert!(ended.status.success(), "{out}\n{errors}");
    assert!(out.contains("1 passed"), "{out}\n{errors}");
}

/// The program's source as one text, literals that go on over lines joined.
fn program() -> String {
    let mut folders = vec![Path::new(ROOT).join("src")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                None => folders.push(path),
                Some(rust) if rust == "rs" => text += &fs::read_to_string(path).unwrap(),
                Some(_) => {}
            }
        }
    }
    let mut joined = String::new();
    for line in text.split_inclusive('\n') {
        match line.strip_suffix("\\\n") {
            Some(begun) => joined += begun.trim_start(),
            None => joined += line.trim_start(),
        }
    }
    joined
}

/// What a line of a table says that the program says: its first cell, if that is one code
/// span, in parts without what is different each time.
fn quoted(line: &str) -> Vec<&str> {
    let cell = line
        .strip_prefix("| `")
        .and_then(|rest| rest.split_once('|'));
    let text = cell.and_then(|(cell, _)| cell.trim_end().strip_suffix('`'));
    let parts = text.into_iter().flat_map(|text| text.split('…'));
    parts
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

#[test]
fn what_troubleshooting_quotes_is_what_the_program_says() {
    let page = fs::read_to_string(Path::new(ROOT).join("tuning/OPERATING.md")).unwrap();
    let (_, tables) = page.split_once("\n## Troubleshooting\n").unwrap();
    let parts: Vec<&str> = tables.lines().flat_map(quoted).collect();
    assert!(parts.len() >= 25, "only {parts:?}");
    let program = program();
    let strange: Vec<_> = parts
        .iter()
        .filter(|part| !program.contains(**part))
        .collect();
    assert!(strange.is_empty(), "the program never says {strange:#?}");
}
