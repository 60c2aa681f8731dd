//! A file's mutants: finds what can be changed, and writes the file so that each change waits
//! behind a number.
//!
//! All is done by inserting text around what stands there, never by writing it a second time,
//! so that mutants may stand within each other:
//!
//! ```text
//!   if a < b + 1 { f(); }
//!   if on(1) ^ (lt(2, &(a ), &( add(3, b , 1)))) { if !on(4) {f();} }
//! ```
//!
//! What the compiler evaluates has no mutants: constants, patterns, types, `const fn` that a
//! constant calls. Nor have macros, whose tokens mean what the macro wants, and tests.

use crate::fixed::Fixed;
use proc_macro2::Span;
use std::collections::HashSet;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Block, Expr, ReturnType, Signature, Stmt, Type};

const SWITCH: &str = "crate::base::mutant";
/// Numbers from here on may be limits; below, they are mostly structure.
const LIMIT_MIN: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Body,
    Condition,
    Statement,
    Equality,
    Boundary,
    Logic,
    Sum,
    Limit,
}

impl Kind {
    /// What it changes is more than a value at its edge.
    pub fn is_crude(self) -> bool {
        matches!(self, Kind::Body | Kind::Condition | Kind::Statement)
    }
}

/// A place with one mutant or several.
pub struct Site {
    pub kind: Kind,
    pub range: Range<usize>,
    pub line: usize,
    /// What each of its mutants makes of it.
    pub changes: Vec<String>,
    /// A `return`, `break` or `continue`: without it what it keeps apart is one way.
    pub leaves: bool,
    edits: Vec<Edit>,
}

/// Text that is put in place of a range. `#` in it is the site's number, `@` the next one.
struct Edit {
    range: Range<usize>,
    text: String,
    closes: bool,
}

pub struct Mutated {
    pub text: String,
    /// Where in the text what a site has inserted stands.
    pub inserted: Vec<(Range<usize>, usize)>,
    /// For each place in the text from which on it is the source again, the place there.
    anchors: Vec<(usize, usize)>,
}

impl Mutated {
    /// Where in the source a place of the text is.
    pub fn source(&self, place: usize) -> usize {
        let after = self.anchors.partition_point(|(text, _)| *text <= place);
        let (text, source) = self.anchors[after - 1];
        source + (place - text)
    }
}

/// The file with those sites in it that have a number.
pub fn write(
    source: &str,
    sites: &[Site],
    numbers: &[Option<usize>],
    freed: &[Range<usize>],
) -> Mutated {
    let freed: Vec<_> = freed
        .iter()
        .map(|range| Edit {
            range: range.clone(),
            text: String::new(),
            closes: false,
        })
        .collect();
    let mut edits: Vec<_> = sites
        .iter()
        .enumerate()
        .filter_map(|(index, site)| Some((index, site, numbers[index]?)))
        .flat_map(|(index, site, number)| site.edits.iter().map(move |edit| (index, edit, number)))
        .chain(freed.iter().map(|edit| (0, edit, 0)))
        .collect();
    // At one place: what ends there, the inner before the outer; then what begins there.
    edits.sort_by_key(|(index, edit, _)| {
        let order = if edit.closes {
            -(*index as isize)
        } else {
            *index as isize
        };
        (edit.range.start, !edit.closes, order)
    });
    let mut out = Mutated {
        text: String::new(),
        inserted: Vec::new(),
        anchors: vec![(0, 0)],
    };
    let mut done = 0;
    for (index, edit, number) in edits {
        out.text.push_str(&source[done..edit.range.start]);
        done = edit.range.end;
        let from = out.text.len();
        let text = edit.text.replace('#', &number.to_string());
        out.text
            .push_str(&text.replace('@', &(number + 1).to_string()));
        if !edit.text.is_empty() {
            out.inserted.push((from..out.text.len(), index));
        }
        out.anchors.push((out.text.len(), done));
    }
    out.text.push_str(&source[done..]);
    out
}

/// All that can be changed in a file, the outer before the inner; and the words `const` of
/// functions that no constant calls, which have to go for it.
pub fn find(source: &str, file: &syn::File, fixed: &Fixed) -> (Vec<Site>, Vec<Range<usize>>) {
    let mut finder = Finder {
        source,
        fixed,
        sites: Vec::new(),
        freed: Vec::new(),
        diverging: HashSet::new(),
    };
    finder.visit_file(file);
    (finder.sites, finder.freed)
}

struct Finder<'a> {
    source: &'a str,
    fixed: &'a Fixed,
    sites: Vec<Site>,
    freed: Vec<Range<usize>>,
    /// Blocks that must not come to their end.
    diverging: HashSet<usize>,
}

fn place(span: Span) -> Range<usize> {
    span.byte_range()
}

fn around(range: &Range<usize>, before: String, after: &str) -> Vec<Edit> {
    vec![
        Edit {
            range: range.start..range.start,
            text: before,
            closes: false,
        },
        Edit {
            range: range.end..range.end,
            text: after.into(),
            closes: true,
        },
    ]
}

/// Likewise, with an operator between two parts replaced.
fn apart(
    range: &Range<usize>,
    before: String,
    operator: &BinOp,
    between: &str,
    after: &str,
) -> Vec<Edit> {
    let mut edits = around(range, before, after);
    edits.push(Edit {
        range: place(operator.span()),
        text: between.into(),
        closes: false,
    });
    edits
}

impl Finder<'_> {
    fn add(&mut self, kind: Kind, at: &impl Spanned, changes: &[&str], edits: Vec<Edit>) {
        let range = place(at.span());
        let line = at.span().start().line;
        let shown = brief(&self.source[range.clone()]);
        let changes = changes
            .iter()
            .map(|change| change.replace("{}", &shown))
            .collect();
        self.sites.push(Site {
            kind,
            range,
            line,
            changes,
            leaves: false,
            edits,
        });
    }

    fn condition(&mut self, condition: &Expr) {
        let told = match condition {
            Expr::Let(_) => return,
            Expr::Binary(binary) => {
                if matches!(binary.op, BinOp::Eq(_) | BinOp::Ne(_)) || has_let(condition) {
                    return;
                }
                condition
            }
            _ => condition,
        };
        let edits = around(&place(told.span()), format!("{SWITCH}::on(#) ^ ("), ")");
        self.add(Kind::Condition, told, &["if {} → if !({})"], edits);
    }

    fn binary(&mut self, binary: &syn::ExprBinary) {
        let range = place(binary.span());
        let (kind, name, after) = match binary.op {
            BinOp::Lt(_) => (Kind::Boundary, "lt", "{}: < → <="),
            BinOp::Le(_) => (Kind::Boundary, "le", "{}: <= → <"),
            BinOp::Gt(_) => (Kind::Boundary, "gt", "{}: > → >="),
            BinOp::Ge(_) => (Kind::Boundary, "ge", "{}: >= → >"),
            BinOp::Add(_) => (Kind::Sum, "add", "{}: + → -"),
            BinOp::Sub(_) => (Kind::Sum, "sub", "{}: - → +"),
            BinOp::Eq(_) | BinOp::Ne(_) => {
                let edits = around(&range, format!("({SWITCH}::on(#) ^ ("), "))");
                return self.add(Kind::Equality, binary, &["{} → !({})"], edits);
            }
            BinOp::And(_) | BinOp::Or(_) => return self.logic(binary),
            _ => return,
        };
        let edits = if kind == Kind::Sum {
            apart(
                &range,
                format!("{SWITCH}::{name}(#, "),
                &binary.op,
                ", ",
                ")",
            )
        } else {
            apart(
                &range,
                format!("{SWITCH}::{name}(#, &("),
                &binary.op,
                "), &(",
                "))",
            )
        };
        self.add(kind, binary, &[after], edits);
    }

    fn logic(&mut self, binary: &syn::ExprBinary) {
        if has_let(&binary.left) || has_let(&binary.right) {
            return;
        }
        let range = place(binary.span());
        let before = format!("(if {SWITCH}::on(#) ^ (");
        let edits = if matches!(binary.op, BinOp::And(_)) {
            apart(
                &range,
                before,
                &binary.op,
                ") {",
                &format!("}} else {{ {SWITCH}::on(#) }})"),
            )
        } else {
            apart(
                &range,
                before,
                &binary.op,
                &format!(") {{ !{SWITCH}::on(#) }} else {{"),
                "})",
            )
        };
        self.add(Kind::Logic, binary, &["{}: && ↔ ||"], edits);
    }

    /// A number, or the name of one.
    fn limit(&mut self, at: &impl Spanned) {
        let edits = around(&place(at.span()), format!("{SWITCH}::limit(#, "), ")");
        self.add(
            Kind::Limit,
            at,
            &["{} → 2^30", "{} → {} + 1", "{} → {} - 1"],
            edits,
        );
    }

    fn statement(&mut self, statement: &Stmt) {
        let Stmt::Expr(expr, semicolon) = statement else {
            return;
        };
        let may_go = match expr {
            Expr::Return(_) => true,
            Expr::Break(_)
            | Expr::Continue(_)
            | Expr::Call(_)
            | Expr::MethodCall(_)
            | Expr::Assign(_) => semicolon.is_some(),
            Expr::Try(_) | Expr::Await(_) => semicolon.is_some(),
            Expr::Binary(binary) => semicolon.is_some() && is_assignment(&binary.op),
            _ => false,
        };
        if may_go {
            let edits = around(
                &place(statement.span()),
                format!("if !{SWITCH}::on(#) {{"),
                "}",
            );
            self.add(Kind::Statement, statement, &["{} → nothing"], edits);
            let leaves = matches!(expr, Expr::Return(_) | Expr::Break(_) | Expr::Continue(_));
            self.sites.last_mut().expect("just added").leaves = leaves;
        }
    }

    fn body(&mut self, signature: &Signature, block: &Block) {
        let values = returned(&signature.output);
        if values.is_empty() {
            return;
        }
        let open = place(block.brace_token.span.open()).end;
        let text = match values[..] {
            [value] => format!("if {SWITCH}::on(#) {{ return {value}; }}"),
            [first, second, ..] => format!(
                "if {SWITCH}::on(#) {{ return {first}; }} if {SWITCH}::on(@) {{ return {second}; }}"
            ),
            [] => return,
        };
        let changes: Vec<_> = values
            .iter()
            .map(|value| format!("fn {} → return {value}", signature.ident))
            .collect();
        let range = place(block.span());
        let line = signature.ident.span().start().line;
        let edits = vec![Edit {
            range: open..open,
            text,
            closes: false,
        }];
        self.sites.push(Site {
            kind: Kind::Body,
            range,
            line,
            changes,
            leaves: false,
            edits,
        });
    }

    /// False if nothing in this function may be changed.
    fn enter(
        &mut self,
        attributes: &[syn::Attribute],
        signature: &Signature,
        block: &Block,
    ) -> bool {
        let stays = signature.constness.is_some() && self.fixed.calls(&signature.ident);
        if stays || is_for_tests(attributes) {
            return false;
        }
        if let Some(constness) = &signature.constness {
            self.freed.push(place(constness.span()));
        }
        if !attributes
            .iter()
            .any(|one| matches!(one.style, syn::AttrStyle::Inner(_)))
        {
            self.body(signature, block);
        }
        true
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Const(_)
            | syn::Item::Static(_)
            | syn::Item::Enum(_)
            | syn::Item::Macro(_) => return,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Trait(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if self.enter(&function.attrs, &function.sig, &function.block) {
            self.visit_block(&function.block);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        if let syn::ImplItem::Fn(function) = item
            && self.enter(&function.attrs, &function.sig, &function.block)
        {
            self.visit_block(&function.block);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast syn::TraitItem) {
        if let syn::TraitItem::Fn(function) = item
            && let Some(block) = &function.default
            && self.enter(&function.attrs, &function.sig, block)
        {
            self.visit_block(block);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let Some(init) = &local.init {
            self.visit_expr(&init.expr);
            if let Some((_, other)) = &init.diverge {
                self.diverging.insert(place(other.span()).start);
                self.visit_expr(other);
            }
        }
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let diverges = self.diverging.contains(&place(block.span()).start);
        for (index, statement) in block.stmts.iter().enumerate() {
            if !(diverges && index + 1 == block.stmts.len()) {
                self.statement(statement);
            }
            self.visit_stmt(statement);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if is_for_tests(&arm.attrs) {
            return;
        }
        if let Some((_, guard)) = &arm.guard {
            self.condition(guard);
            self.visit_expr(guard);
        }
        self.visit_expr(&arm.body);
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        match expr {
            Expr::If(expr) => self.condition(&expr.cond),
            Expr::While(expr) => self.condition(&expr.cond),
            Expr::Binary(expr) => self.binary(expr),
            Expr::Path(expr) if expr.qself.is_none() => {
                if expr
                    .path
                    .segments
                    .last()
                    .is_some_and(|last| self.fixed.is_number(&last.ident))
                {
                    self.limit(expr);
                }
                return;
            }
            Expr::Lit(expr) => {
                if let syn::Lit::Int(number) = &expr.lit
                    && number
                        .base10_parse::<u64>()
                        .is_ok_and(|number| number >= LIMIT_MIN)
                {
                    self.limit(expr);
                }
                return;
            }
            Expr::Repeat(expr) => return self.visit_expr(&expr.expr),
            Expr::Const(_) | Expr::Macro(_) => return,
            _ => {}
        }
        visit::visit_expr(self, expr);
    }

    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_macro(&mut self, _: &'ast syn::Macro) {}
}

fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

fn is_assignment(operator: &BinOp) -> bool {
    use BinOp::{AddAssign, BitAndAssign, BitOrAssign, DivAssign, MulAssign, ShlAssign, SubAssign};
    matches!(
        operator,
        AddAssign(_)
            | SubAssign(_)
            | MulAssign(_)
            | DivAssign(_)
            | BitAndAssign(_)
            | BitOrAssign(_)
            | ShlAssign(_)
    )
}

pub fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path
            .segments
            .last()
            .is_some_and(|last| last.ident == "test"),
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        syn::Meta::NameValue(_) => false,
    })
}

/// What a function of this type may return at once.
fn returned(output: &ReturnType) -> Vec<&'static str> {
    const DEFAULT: &str = "::core::default::Default::default()";
    let kind = match output {
        ReturnType::Default => return vec!["()"],
        ReturnType::Type(_, kind) => &**kind,
    };
    let Type::Path(path) = kind else {
        return Vec::new();
    };
    let Some(last) = path.path.segments.last() else {
        return Vec::new();
    };
    match last.ident.to_string().as_str() {
        "bool" => vec!["true", "false"],
        "Option" => vec!["None"],
        "Result" => vec!["Ok(::core::default::Default::default())"],
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "i32" | "i64" | "f64" => vec![DEFAULT],
        "Vec" | "String" | "Bytes" | "Duration" => vec![DEFAULT],
        _ => Vec::new(),
    }
}

fn brief(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(70) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
