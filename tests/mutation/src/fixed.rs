//! What the compiler evaluates: the names that constants use, so that a `const fn` that none
//! of them calls can be told, and mutated as any other function; and which constants are
//! numbers.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::{HashMap, HashSet};
use syn::Type;
use syn::visit::{self, Visit};

#[derive(Default)]
pub struct Fixed {
    names: HashSet<String>,
    /// Names in the bodies of each `const fn`.
    inside: HashMap<String, HashSet<String>>,
    numbers: HashSet<String>,
    others: HashSet<String>,
}

impl Fixed {
    /// Takes note of a file's constants; of those of tests as well, which may call any function.
    pub fn read(&mut self, file: &syn::File) {
        self.visit_file(file);
    }

    /// What a `const fn` that stays one calls, stays one.
    pub fn close(&mut self) {
        loop {
            let called: Vec<String> = self
                .inside
                .iter()
                .filter(|(name, _)| self.names.contains(*name))
                .flat_map(|(_, names)| names.clone())
                .collect();
            let before = self.names.len();
            self.names.extend(called);
            if self.names.len() == before {
                return;
            }
        }
    }

    /// A constant is, or may be, made of what this function returns.
    pub fn calls(&self, name: &Ident) -> bool {
        self.names.contains(&name.to_string())
    }

    pub fn is_number(&self, name: &Ident) -> bool {
        let name = name.to_string();
        self.numbers.contains(&name) && !self.others.contains(&name)
    }

    fn constant(&mut self, name: &Ident, kind: &Type, value: &impl ToTokens) {
        names(value.to_token_stream(), &mut self.names);
        let numbers = ["u8", "u16", "u32", "u64", "u128", "usize", "i32", "i64"];
        let is_number =
            matches!(kind, Type::Path(path) if numbers.iter().any(|name| path.path.is_ident(name)));
        let kinds = if is_number {
            &mut self.numbers
        } else {
            &mut self.others
        };
        kinds.insert(name.to_string());
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        if signature.constness.is_some() {
            let inside = self.inside.entry(signature.ident.to_string()).or_default();
            names(block.to_token_stream(), inside);
        }
    }
}

impl<'ast> Visit<'ast> for Fixed {
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.constant(&item.ident, &item.ty, &item.expr);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.constant(&item.ident, &item.ty, &item.expr);
    }

    fn visit_trait_item_const(&mut self, item: &'ast syn::TraitItemConst) {
        names(item.to_token_stream(), &mut self.names);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        names(item.expr.to_token_stream(), &mut self.names);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        names(variant.to_token_stream(), &mut self.names);
    }

    fn visit_type_array(&mut self, array: &'ast syn::TypeArray) {
        names(array.len.to_token_stream(), &mut self.names);
    }

    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        names(repeat.len.to_token_stream(), &mut self.names);
        visit::visit_expr_repeat(self, repeat);
    }

    fn visit_expr_const(&mut self, block: &'ast syn::ExprConst) {
        names(block.to_token_stream(), &mut self.names);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let mut inside = HashSet::new();
        names(call.tokens.clone(), &mut inside);
        if inside.contains("const") || inside.contains("static") {
            self.names.extend(inside);
        }
    }
}

fn names(tokens: TokenStream, into: &mut HashSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(name) => drop(into.insert(name.to_string())),
            TokenTree::Group(group) => names(group.stream(), into),
            _ => {}
        }
    }
}
