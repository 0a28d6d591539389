//! The names, functions and types in a module's items.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{ItemMod, Macro, UseTree};

use super::{Function, Module, ModulePath, is_test};

/// The visitor of one module.
pub(super) struct Content {
    path: ModulePath,
    /// How many inline modules deep the visitor is.
    depth: usize,
    /// The type whose implementation the visitor is in.
    owner: String,
    pub(super) module: Module,
}

impl Content {
    /// Of the module at `path`, before its first item.
    pub(super) fn new(path: ModulePath) -> Self {
        Self { path, depth: 0, owner: String::new(), module: Module::default() }
    }

    fn note(&mut self, segments: &[String]) {
        let mut base = self.path.clone();
        let rest = match segments.first().map(String::as_str) {
            Some("crate") => {
                base.clear();
                &segments[1..]
            }
            Some("self") => &segments[1..],
            Some("super") => {
                let ups = segments.iter().take_while(|segment| *segment == "super").count();
                let Some(left) = (base.len() + self.depth).checked_sub(ups) else { return };
                base.truncate(left);
                &segments[ups..]
            }
            // A child module by its own name, or something of another crate: only the former resolves.
            Some(_) => segments,
            None => return,
        };
        base.extend(rest.iter().cloned());
        self.module.paths.insert(base);
    }

    fn note_function(&mut self, signature: &syn::Signature, body: Option<&syn::Block>) {
        let first = signature.fn_token.span.start().line;
        let last = body.map_or(first, |body| body.brace_token.span.close().end().line);
        let is_parameter = |input: &&syn::FnArg| matches!(input, syn::FnArg::Typed(_));
        self.module.functions.push(Function {
            name: format!("{}{}", self.owner, signature.ident),
            lines: last - first + 1,
            parameters: signature.inputs.iter().filter(is_parameter).count(),
        });
    }

    fn note_type(&mut self, visibility: &syn::Visibility, name: &syn::Ident) {
        if !matches!(visibility, syn::Visibility::Inherited) {
            self.module.types.push(name.to_string());
        }
    }

    fn note_use(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.note_use(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_use(tree, before));
            }
            UseTree::Name(name) => self.note_leaf(before, Some(name.ident.to_string())),
            UseTree::Rename(rename) => self.note_leaf(before, Some(rename.ident.to_string())),
            UseTree::Glob(_) => self.note_leaf(before, None),
        }
    }

    fn note_leaf(&mut self, before: &[String], leaf: Option<String>) {
        let leaf = leaf.filter(|leaf| leaf != "self");
        let segments: Vec<String> = before.iter().cloned().chain(leaf).collect();
        self.note(&segments);
    }

    /// A macro's arguments are tokens: `crate::a::b` is looked for in them.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if path.is_empty() || colons == 2 => {
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                }
                other => {
                    self.end_of_tokens(&mut path);
                    colons = 0;
                    match other {
                        TokenTree::Group(group) => self.note_tokens(group.stream()),
                        TokenTree::Ident(ident) => path.push(ident.to_string()),
                        _ => {}
                    }
                }
            }
        }
        self.end_of_tokens(&mut path);
    }

    fn end_of_tokens(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.note(path);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Content {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.note(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.note_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            self.depth += 1;
            visit::visit_item_mod(self, module);
            self.depth -= 1;
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.note_function(&item.sig, Some(&item.block));
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            self.note_function(&item.sig, Some(&item.block));
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.note_function(&item.sig, item.default.as_ref());
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let syn::Type::Path(of) = &*item.self_ty
            && let Some(last) = of.path.segments.last()
        {
            self.owner = format!("{}::", last.ident);
        }
        visit::visit_item_impl(self, item);
        self.owner.clear();
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.note_type(&item.vis, &item.ident);
        self.owner = format!("{}::", item.ident);
        visit::visit_item_trait(self, item);
        self.owner.clear();
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.note_type(&item.vis, &item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.note_type(&item.vis, &item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.note_type(&item.vis, &item.ident);
        visit::visit_item_type(self, item);
    }
}
