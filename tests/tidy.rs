//! The house rules, held against the tree: layers, `unsafe`, clocks, sizes, names, links.
//!
//! Each rule is one test whose failure names file, line, rule and remedy; beside it the rule's
//! detector is tried on a snippet that breaks it, so that no rule passes by being blind.
//! The rules read sources as text (`tidy/source.rs`) and live in `tidy/rule.rs`.

#[path = "tidy/circle.rs"]
mod circle;
#[path = "tidy/rule.rs"]
mod rule;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rule::Breach;
use source::Source;

/// A folder of `src`: its layer, and what of this crate it may import besides itself.
pub struct Folder {
    name: &'static str,
    layer: u8,
    may: &'static [&'static str],
}

/// ARCHITECTURE's layer table. `a::b` permits that module only. `main.rs` and `lib.rs` are
/// layer 7: they may name everything and hold no logic. The client is built without a server,
/// of `base` and `proto` alone. The cli speaks of exit codes, times
/// and limits in `base`'s words, reads files and shows text as it does; of what a server is made of it knows nothing.
#[rustfmt::skip]
const LAYERS: &[Folder] = &[
    Folder { name: "base",    layer: 0, may: &[] },
    Folder { name: "proto",   layer: 1, may: &["base"] },
    Folder { name: "router",  layer: 2, may: &["base", "proto"] },
    Folder { name: "auth",    layer: 2, may: &["base", "proto"] },
    Folder { name: "metrics", layer: 2, may: &["base", "proto"] },
    Folder { name: "ring",    layer: 2, may: &["base", "proto"] },
    Folder { name: "codec",   layer: 2, may: &["base", "proto"] },
    Folder { name: "wire",    layer: 2, may: &["base", "proto"] },
    Folder { name: "broker",  layer: 3, may: &["base", "proto", "wire", "router", "auth", "metrics", "codec"] },
    Folder { name: "shard",   layer: 4, may: &["base", "proto", "wire", "auth", "metrics", "ring", "broker"] },
    Folder { name: "server",  layer: 5, may: &["base", "proto", "wire", "router", "auth", "metrics", "ring", "codec", "broker", "shard"] },
    Folder { name: "client",  layer: 5, may: &["base", "proto"] },
    Folder { name: "cli",     layer: 6, may: &["base::exit", "base::clock", "base::file", "base::limits", "base::terminal", "proto", "auth::issue", "auth::key", "auth::keyring", "auth::token", "server", "client"] },
];

/// Circles of files that stand today. The list may only shrink: none is to be left.
#[rustfmt::skip]
const CIRCLES: &[&[&str]] = &[];

/// Words that only some folders may use.
const CONFINED: &[(&str, &[&str])] = &[
    ("unsafe", &["ring"]),
    ("glommio", &["shard", "server"]),
    ("tokio", &["server", "client", "cli"]),
    // Where what stands in a message is known to `proto` alone: elsewhere `proto::encoded`.
    ("MESSAGE_HEADER_BYTES", &["base", "proto"]),
    ("ENVELOPE_FIXED_BYTES", &["base", "proto"]),
    ("CHECKSUM_BYTES", &["base", "proto"]),
    ("FRAME_HEADER_BYTES", &["base", "proto"]),
];

/// Top-level entries, dotfiles aside.
const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "benches",
    "scripts",
    "src",
    "tests",
    "tuning",
];

/// Pages that say where things are.
const PAGES: &[&str] = &[
    "benches/BENCHMARKS.md",
    "src/ARCHITECTURE.md",
    "src/proto/PROTOCOL.md",
    "tests/README.md",
    "tuning/OPERATING.md",
];

/// Lines of the README; what is longer moves to a page of its own.
const README_LINES_MAX: usize = 200;

fn hold(breaches: impl IntoIterator<Item = Breach>) {
    let lines: Vec<String> = breaches
        .into_iter()
        .map(|breach| breach.to_string())
        .collect();
    assert!(
        lines.is_empty(),
        "{} to mend:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

/// The lines on which a snippet, standing at `path`, breaks a rule.
fn lines(path: &str, text: &str, detect: impl Fn(&Source) -> Vec<Breach>) -> Vec<usize> {
    detect(&Source::new(path, text))
        .iter()
        .map(|breach| breach.line)
        .collect()
}

fn rust() -> impl Iterator<Item = Source> {
    let kinds = ["src", "tests", "benches"].map(source::rust);
    kinds.into_iter().flatten()
}

/// Every text file of the project: what stands at its top, `target` and `.git` aside.
fn project() -> Vec<Source> {
    let hidden = [".ci", ".config", ".github", ".gitignore"];
    let texts: Vec<_> = TOP
        .iter()
        .chain(&hidden)
        .flat_map(|entry| source::texts(entry))
        .collect();
    assert!(texts.len() > 10, "only {} files found", texts.len());
    texts
}

/// Names at the top: what git tracks, or, where there is no git, what stands there.
fn top_names() -> Vec<String> {
    let git = Command::new("git")
        .arg("-C")
        .arg(source::root())
        .args(["ls-files", "-z"])
        .output();
    let listed = git
        .ok()
        .filter(|out| out.status.success() && !out.stdout.is_empty());
    let names: BTreeSet<String> = match listed {
        Some(out) => String::from_utf8_lossy(&out.stdout)
            .split_terminator('\0')
            .filter_map(|path| path.split('/').next().map(String::from))
            .collect(),
        None => fs::read_dir(source::root())
            .expect("readable project")
            .map(|entry| {
                entry
                    .expect("readable entry")
                    .file_name()
                    .to_string_lossy()
                    .into()
            })
            .filter(|name| name != "target")
            .collect(),
    };
    assert!(
        names.contains("Cargo.toml"),
        "no project at {}",
        source::root().display()
    );
    names.into_iter().collect()
}

#[test]
fn folders_import_only_downwards() {
    hold(
        source::rust("src")
            .iter()
            .flat_map(|source| rule::imports(LAYERS, source)),
    );
}

#[test]
fn the_layer_table_only_points_down() {
    for folder in LAYERS {
        for entry in folder.may {
            let below = entry
                .split("::")
                .next()
                .and_then(|top| LAYERS.iter().find(|f| f.name == top));
            let below = below.unwrap_or_else(|| panic!("{entry} is in no layer"));
            assert!(
                below.layer < folder.layer,
                "{} may not import {entry}",
                folder.name
            );
        }
    }
}

#[test]
fn an_import_upwards_is_found_in_every_spelling() {
    let detect = |source: &Source| rule::imports(LAYERS, source);
    let upwards = "use crate::base::id;\nuse crate::shard::Shard;\nuse crate::{base::id::Key, ring};\n\
        use super::super::server;\nuse super::{frame, super::client::{self, Client}};\n\
        fn f() { crate::router::go(); }\nmod inner { use super::super::super::auth::Right; }\n\
        use crate::Server;\nuse crate::*;\n// crate::shard in a comment, \"crate::shard\"\n";
    assert_eq!(
        lines("src/proto/session.rs", upwards, detect),
        [2, 3, 4, 5, 5, 6, 7, 8, 9]
    );
    assert_eq!(
        lines("src/ring/mod.rs", "use super::metrics::Block;\n", detect),
        [1]
    );
    assert_eq!(
        lines("src/router/mod.rs", "use crate::auth::Right;\n", detect),
        [1]
    );
    assert_eq!(
        lines("src/client/mod.rs", "use crate::server::Config;\n", detect),
        [1]
    );
    assert_eq!(
        lines(
            "src/cli/args.rs",
            "use crate::base::slab;\nuse crate::shard;\nuse crate::ring;\nuse crate::metrics;\n",
            detect
        ),
        [1, 2, 3, 4]
    );
    assert_eq!(lines("src/helper.rs", "fn f() {}\n", detect), [1]);
    assert_eq!(lines("src/exchange/mod.rs", "fn f() {}\n", detect), [1]);
    assert_eq!(
        lines(
            "src/broker/mod.rs",
            "use crate::ring::driver::Driver;\n",
            detect
        ),
        [1]
    );
}

#[test]
fn imports_downwards_and_inside_pass() {
    let detect = |source: &Source| rule::imports(LAYERS, source);
    let inside = "use crate::base::{clock::Instant, id::*};\nuse super::frame;\nuse super::super::proto::name;\n\
        pub(crate) fn f() {}\npub(in crate::proto) fn g() {}\nmod tests { use super::*; }\n";
    assert_eq!(lines("src/proto/session.rs", inside, detect), []);
    let command = "use crate::base::{clock::Instant, exit::Status, limits};\n\
        use crate::{client, proto, server::Server};\n";
    assert_eq!(lines("src/cli/serve.rs", command, detect), []);
    let top = "use ringmail::cli;\nfn main() {}\n";
    assert_eq!(lines("src/main.rs", top, detect), []);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = source::rust("src");
    hold(circle::strange(&circle::graph(&sources), CIRCLES));
}

#[test]
fn a_circle_is_found_in_every_spelling() {
    let rounds = |texts: &[(&str, &str)]| {
        let sources: Vec<_> = texts
            .iter()
            .map(|(path, text)| Source::new(path, text))
            .collect();
        let found = circle::circles(&circle::graph(&sources));
        found.iter().map(|circle| circle.len()).collect::<Vec<_>>()
    };
    let (a, b, top) = ("src/x/a.rs", "src/x/b.rs", "src/x/mod.rs");
    let to_a = "pub struct B;\nuse crate::x::a::A;\n";
    let declared = "mod a;\nmod b;\npub use a::A;\npub use b::{B, B as C};\n";
    // What `a` says, what their folder says, and the circles of that.
    for (text, folder, found) in [
        ("pub struct A;\nuse super::b::B;\n", declared, vec![2]),
        ("pub struct A(crate::x::b::B);\n", declared, vec![2]),
        ("pub struct A(super::B);\n", declared, vec![2]),
        ("pub struct A(super::C);\n", declared, vec![2]),
        (
            "pub struct A;\nfn f() { super::b::g(); }\n",
            declared,
            vec![2],
        ),
        (
            "pub struct A;\nuse super::B;\n",
            "mod a;\nmod b;\npub use b::*;\n",
            vec![2],
        ),
        (
            "pub struct A;\nuse super::B;\n",
            "mod a;\nmod b;\nuse self::b::B;\n",
            vec![2],
        ),
        (
            "pub struct A;\nuse super::D;\n",
            "mod a;\nmod b;\npub struct D;\n",
            vec![],
        ),
        (
            "pub struct A;\nuse super::D;\n",
            "mod a;\nmod b;\npub struct D(a::A);\n",
            vec![2],
        ),
        ("pub struct A;\nuse super::*;\n", declared, vec![3]),
        (
            "pub struct A;\npub(in super::super) struct E;\n// super::B\n",
            declared,
            vec![],
        ),
        (
            "pub struct A;\n#[cfg(test)]\nmod tests {\n    use super::super::B;\n}\n",
            declared,
            vec![],
        ),
    ] {
        assert_eq!(
            rounds(&[(a, text), (b, to_a), (top, folder)]),
            found,
            "{text}{folder}"
        );
    }
}

#[test]
fn the_list_of_circles_only_shrinks() {
    let names = [("a", "c"), ("b", "a"), ("c", "b"), ("d", "a"), ("mod", "d")];
    let texts = names.map(|(file, other)| {
        let text = format!("use super::{other}::X{other};\n");
        Source::new(&format!("src/x/{file}.rs"), &text)
    });
    let graph = circle::graph(&texts);
    let strange = |known: &[&[&str]]| {
        let found = circle::strange(&graph, known);
        found
            .into_iter()
            .map(|breach| breach.path)
            .collect::<Vec<_>>()
    };
    let (a, b, c, d) = ("src/x/a.rs", "src/x/b.rs", "src/x/c.rs", "src/x/d.rs");
    assert!(strange(&[&[a, b, c]]).is_empty());
    assert_eq!(strange(&[]), [a]);
    assert_eq!(strange(&[&[a, b]]), [c]);
    assert_eq!(strange(&[&[a, b], &[c]]), [a]);
    assert_eq!(strange(&[&[a, b, c, d]]), [d]);
    let told = circle::strange(&graph, &[]).remove(0).to_string();
    assert!(
        told.contains("src/x/a.rs:1 → src/x/c.rs:1 → src/x/b.rs:1 → src/x/a.rs"),
        "{told}"
    );
}

#[test]
fn main_and_lib_hold_no_logic() {
    hold(source::rust("src").iter().flat_map(rule::logic));
    assert_eq!(
        lines("src/lib.rs", "pub mod base;\n\nfn f() {}\n", rule::logic),
        [3]
    );
    assert_eq!(
        lines("src/main.rs", "fn main() {}\nfn f() {}\n", rule::logic),
        [2]
    );
    let long = format!(
        "fn main() {{\n{}}}\n",
        "    f();\n".repeat(rule::MAIN_LINES_MAX)
    );
    assert_eq!(lines("src/main.rs", &long, rule::logic).len(), 1);
    assert_eq!(lines("src/cli/mod.rs", "fn f() {}\n", rule::logic), []);
    let words = "//! Words.\n";
    assert_eq!(lines("src/guide.rs", words, rule::logic), []);
    let import = format!("{words}use crate::Client;\n");
    assert_eq!(lines("src/guide.rs", &import, rule::logic).len(), 1);
}

#[test]
fn unsafe_glommio_tokio_and_the_layout_of_messages_stay_in_their_folders() {
    for (word, folders) in CONFINED {
        hold(
            source::rust("src")
                .iter()
                .flat_map(|source| rule::confined(word, folders, source)),
        );
        let snippet = format!("//! {word}\nuse {word}::x; // {word}\nlet s = \"{word}\";\n");
        let detect = |source: &Source| rule::confined(word, folders, source);
        assert_eq!(lines("src/auth/key.rs", &snippet, detect), [2]);
        assert_eq!(lines("src/lib.rs", &snippet, detect), [2]);
        assert_eq!(
            lines(&format!("src/{}/x.rs", folders[0]), &snippet, detect),
            []
        );
    }
    let detect = |source: &Source| rule::confined("tokio", &["server"], source);
    assert_eq!(
        lines("src/shard/mod.rs", "use tokio_util::codec;\n", detect),
        [1]
    );
    let detect = |source: &Source| rule::confined("unsafe", &["ring"], source);
    assert_eq!(lines("src/lib.rs", "#![deny(unsafe_code)]\n", detect), []);
    let export = "#[unsafe(export_name = \"x\")]\npub static X: u8 = unsafe { y() };\n";
    assert_eq!(lines("src/main.rs", export, detect), [2]);
    assert_eq!(lines("src/cli/x.rs", export, detect), [1, 2]);
}

#[test]
fn each_unsafe_says_why_it_is_sound() {
    hold(rust().flat_map(|source| rule::safety(&source)));
    let bare = "fn f() {\n    unsafe { g() };\n}\nunsafe impl Send for X {}\n";
    assert_eq!(lines("src/ring/x.rs", bare, rule::safety), [2, 4]);
    let once = "// SAFETY: the first only.\nunsafe { f() };\nunsafe { g() };\n";
    assert_eq!(lines("src/ring/x.rs", once, rule::safety), [3]);
    let noted = "// SAFETY: owned until the completion.\nlet x =\n    unsafe { f() };\nunsafe {\n\
        // SAFETY: as above.\n g() }\n/// # Safety\n/// The ring outlives it.\n#[inline]\npub unsafe fn f() {}\n";
    assert_eq!(lines("src/ring/x.rs", noted, rule::safety), []);
}

#[test]
fn files_and_functions_stay_readable() {
    hold(source::rust("src").iter().flat_map(rule::size));
    let long = "//\n".repeat(rule::FILE_LINES_MAX + 1);
    assert_eq!(
        lines("src/base/x.rs", &long, rule::size),
        [rule::FILE_LINES_MAX + 1]
    );
    let tested = format!("//\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(lines("src/base/x.rs", &tested, rule::size), []);
    let function = |count: usize| {
        format!(
            "impl X {{\n    pub(crate) fn f() {{\n{}    }}\n}}\n",
            "        g();\n".repeat(count)
        )
    };
    assert_eq!(
        lines(
            "src/base/x.rs",
            &function(rule::FUNCTION_LINES_MAX),
            rule::size
        ),
        [2]
    );
    assert_eq!(
        lines(
            "src/base/x.rs",
            &function(rule::FUNCTION_LINES_MAX - 1),
            rule::size
        ),
        []
    );
}

#[test]
fn message_types_are_told_apart_by_name() {
    hold(source::rust("src").iter().flat_map(rule::told_apart));
    hold(source::rust("src").iter().flat_map(rule::listed));
    let arms = |rest: &str| {
        format!(
            "match kind {{\n    MessageType::Will => {{\n        f()\n    }}\n    {rest} => g(),\n}}\n"
        )
    };
    for (rest, found) in [
        ("_", vec![5]),
        ("kind", vec![5]),
        ("MessageType::Serve", vec![]),
    ] {
        assert_eq!(lines("src/x.rs", &arms(rest), rule::told_apart), found);
    }
    let class = arms("_").replace("MessageType::", "Class::");
    assert_eq!(lines("src/x.rs", &class, rule::told_apart), [5]);
    // What the table says of each type is not said again.
    for (text, found) in [
        ("use MessageType::*;\n", vec![1]),
        (
            "match kind {\n    MessageType::Ping | MessageType::Pong => f(),\n}\n",
            vec![],
        ),
        (
            "match kind {\n    MessageType::Ping\n    | MessageType::Pong\n    | MessageType::Ok => f(),\n}\n",
            vec![2],
        ),
    ] {
        assert_eq!(lines("src/x.rs", text, rule::listed), found);
        assert_eq!(lines("src/proto/kind.rs", text, rule::listed), []);
    }
}

#[test]
fn each_file_has_a_module_head() {
    hold(rust().flat_map(|source| rule::head(&source)));
    assert_eq!(lines("src/base/x.rs", "use std::fmt;\n", rule::head), [1]);
    assert_eq!(lines("src/base/x.rs", "//! What it is.\n", rule::head), []);
}

#[test]
fn file_names_say_what_is_inside() {
    hold(project().iter().flat_map(|source| rule::name(&source.path)));
    for bad in [
        "src/proto/util.rs",
        "tests/common/mod.rs",
        "src/shard/types.rs",
        "src/manager.rs",
    ] {
        assert_eq!(rule::name(bad).len(), 1, "{bad}");
    }
    assert!(rule::name("src/proto/envelope.rs").is_empty());
}

#[test]
fn no_notes_to_self_and_no_unfinished_code() {
    hold(project().iter().flat_map(rule::notes));
    hold(rust().flat_map(|source| rule::words(&source)));
    let note = concat!(
        "fn f() {} // TO",
        "DO later\nlet x = \"XX",
        "X\"; // FIX",
        "ME\n"
    );
    assert_eq!(lines("src/base/x.rs", note, rule::notes), [1, 2]);
    let unfinished = "fn get_x() { todo!() }\nfn f() { dbg!(x); y.unwrap(); }\n// z.unwrap()\n\
        #[cfg(test)]\nmod tests {\n    fn t() { x.unwrap(); unimplemented!() }\n}\n";
    assert_eq!(
        lines("src/base/x.rs", unfinished, rule::words),
        [1, 1, 2, 2, 6]
    );
    assert_eq!(
        lines("tests/x.rs", "fn f() { x.unwrap(); }\n", rule::words),
        []
    );
}

#[test]
fn only_drivers_and_what_is_above_them_read_a_clock() {
    hold(source::rust("src").iter().flat_map(rule::clock));
    let reads = "fn f() { std::time::Instant::now(); }\nlet t = SystemTime::now();\n\
        let d = start.elapsed();\n#[cfg(test)]\nmod tests {\n    fn t() { Instant::now(); }\n}\n";
    assert_eq!(lines("src/proto/session.rs", reads, rule::clock), [1, 2, 3]);
    assert_eq!(lines("src/shard/turn.rs", reads, rule::clock), [1, 2, 3]);
    assert_eq!(lines("src/base/clock.rs", reads, rule::clock), []);
    assert_eq!(lines("src/ring/uring.rs", reads, rule::clock), []);
}

#[test]
fn nothing_strange_stands_at_the_top() {
    hold(rule::top(TOP, &top_names()));
    let names = ["src", "docs", ".ci", "notes.md"].map(String::from);
    let found: Vec<_> = rule::top(TOP, &names)
        .into_iter()
        .map(|breach| breach.path)
        .collect();
    assert_eq!(found, ["docs", "notes.md"]);
}

/// The text of a file of the project; of a folder or a picture none.
fn contents(path: &str) -> Option<String> {
    let path = source::root().join(path);
    path.exists()
        .then(|| fs::read_to_string(path).unwrap_or_default())
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    let pages: Vec<Source> = project()
        .into_iter()
        .filter(|text| text.path.ends_with(".md"))
        .collect();
    for page in ["README.md", "tuning/OPERATING.md", "benches/BENCHMARKS.md"] {
        let is_there = pages.iter().any(|text| text.path == page);
        assert!(is_there, "no {page}");
    }
    hold(pages.iter().flat_map(|page| rule::links(page, contents)));

    let snippet = "# A page's `name`, here\n[a](x.rs#L3) and [b](gone.rs) [c](https://x.org/y) [d](#below)\n\
        [e]: ../tuning/gone.toml\n```\n[f](not/a/link)\n# Fenced\n```\n[g](#a-pages-name-here)\n\
        [h](../README.md#two-commands)\n[i](../README.md#three) [j](#fenced)\n";
    let known = |path: &str| match path {
        "src/page.md" => Some(snippet.to_owned()),
        "src/x.rs" => Some(String::new()),
        "README.md" => Some("# x\n## Two commands\n".to_owned()),
        _ => None,
    };
    let detect = |source: &Source| rule::links(source, known);
    assert_eq!(lines("src/page.md", snippet, detect), [2, 2, 3, 10, 10]);
}

#[test]
fn the_readme_is_read_in_one_go() {
    let readme = source::texts("README.md");
    assert_eq!(readme.len(), 1, "no README.md");
    hold(rule::length(&readme[0], README_LINES_MAX));
    let detect = |source: &Source| rule::length(source, 2);
    assert_eq!(lines("README.md", "a\nb\n", detect), []);
    assert_eq!(lines("README.md", "a\nb\nc\n", detect), [3]);
}

#[test]
fn pages_beside_the_code_name_what_is_there() {
    let find = |path: &str| {
        let path = source::root().join(path);
        match path.is_dir() {
            true => Some(String::new()),
            false => fs::read_to_string(path).ok(),
        }
    };
    let mut named = 0;
    for path in PAGES {
        let text = find(path).unwrap_or_else(|| panic!("no {path}"));
        named += text.matches(".rs").count();
        let page = Source {
            path: (*path).into(),
            text,
            code: String::new(),
        };
        hold(
            rule::named(&page, find)
                .into_iter()
                .chain(rule::width(&page)),
        );
    }
    assert!(named > 100, "only {named} files are named");

    let snippet = "`src/a.rs` and `src/gone.rs`, `src/a.rs::go`, `src/a.rs::gone`\n`a.rs`\n\
        `x/y`, `limits.rate`, `src/`\n```text\n`src/gone.rs`\n```\n| `lost.md` |\n";
    let tree = |path: &str| match path {
        "src/a.rs" => Some("fn go() {}".to_owned()),
        "src/" => Some(String::new()),
        _ => None,
    };
    let detect = |page: &Source| rule::named(page, tree);
    assert_eq!(lines("src/X.md", snippet, detect), [1, 1, 2, 7]);
    let long = "ü".repeat(rule::COLUMNS_MAX);
    let snippet = format!("# A b\n{long}\n{long}x\n|{long}|\n");
    assert_eq!(lines("src/X.md", &snippet, rule::width), [3]);
}

#[test]
fn scripts_can_be_called_and_say_how() {
    let scripts = source::texts("scripts");
    assert!(!scripts.is_empty(), "no scripts");
    let executable = |path: &str| {
        let status = fs::metadata(source::root().join(path)).expect("a file just listed");
        status.permissions().mode() & 0o111 != 0
    };
    let entry = source::texts(".ci/run");
    hold(
        scripts
            .iter()
            .chain(&entry)
            .flat_map(|script| rule::script(script, executable(&script.path))),
    );
    let good = "#!/bin/sh\n# Does it.\n# Usage: scripts/x [--fast]\n";
    assert_eq!(
        lines("scripts/x", good, |source| rule::script(source, true)),
        []
    );
    assert_eq!(
        lines("scripts/x", good, |source| rule::script(source, false)),
        [1]
    );
    assert_eq!(
        lines("scripts/x", "#!/bin/sh\necho\n", |source| rule::script(
            source, true
        )),
        [2]
    );
}

#[test]
fn no_path_of_a_build_machine_is_written_down() {
    hold(project().iter().flat_map(rule::machine_path));
    let paths = concat!(
        "cd /wo",
        "rk/x\nopen(\"/ro",
        "ot/y\")\nsrc/ho",
        "me/z\nhttps://x.org/ho",
        "me/\n"
    );
    assert_eq!(lines("README.md", paths, rule::machine_path), [1, 2]);
}

#[test]
fn comments_and_literals_are_not_code() {
    let code = source::blank(
        "a // b\n/* c /* d */ e */ f \"g\\\"h\" 'i' '\\'' &'j k r#\"l \" m\"# b\"n\" for r#type",
    );
    let words: Vec<_> = code.split_whitespace().collect();
    assert_eq!(words, ["a", "f", "&'j", "k", "for", "r#type"]);
}
