//! Reads the sources key by key, and collects errors and warnings.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

use serde_saphyr::Spanned;

use super::document::{Component, Document, Entry, Found, Leaf, Node, Section};
use super::error::{ConfigError, ConfigErrors, Origin, Warning};
use super::keys::{self, Conversion, Key, Written};
use super::{Config, Content, Sources, StoredValue, sources};

/// The section of a file that is read; the others may belong to other programs.
const SECTION: &str = "resilience";
/// The most unknown keys to list: a file with more of them probably belongs to another program.
const MAX_WARNINGS: usize = 50;
/// The most errors to keep, besides the first of each component.
const MAX_ERRORS: usize = 50;

pub(super) fn read(sources: &Sources) -> Result<Config, ConfigErrors> {
    let mut reader = Reader::default();
    reader.read_environment(sources);
    let unreadable = reader.read_documents(sources).err();
    let Reader { mut content, mut errors } = reader;
    errors.extend(unreadable);
    let clamped = content.values.values().filter_map(|given| {
        let text = given.clamped.clone()?;
        Some(Warning { origin: given.origin.clone(), text })
    });
    content.warnings.extend(clamped);
    let valid = Config(Arc::new(content));
    if errors.is_empty() { Ok(valid) } else { Err(ConfigErrors { errors, valid }) }
}

/// The values, warnings and errors so far.
#[derive(Default)]
struct Reader {
    content: Content,
    errors: Vec<ConfigError>,
}

impl Reader {
    fn read_environment(&mut self, sources: &Sources) {
        let variable = |component: &str, spelling: &str| {
            format!("{}{}__{}", sources::PREFIX, component.to_uppercase(), spelling.to_uppercase())
        };
        for key in keys::all() {
            for spelling in key.section {
                let name = variable(key.component, spelling);
                let Some(value) = sources.variables.get(OsStr::new(&name)) else { continue };
                let path = format!("resilience.{}.{spelling}", key.component);
                let origin = Origin::Environment(name.into());
                match value.to_str() {
                    Some(text) => {
                        self.set_value(key, None, &path, &Written::in_environment(text), origin, |error| error);
                    }
                    None => {
                        let error = ConfigError::new(origin, format!("is not UTF-8: {value:?}"));
                        self.add_error(key.component, || error.with_key(path).with_allowed(key.kind.allowed()));
                    }
                }
            }
        }
        let known: Vec<String> =
            keys::all().flat_map(|key| key.section.iter().map(|name| variable(key.component, name))).collect();
        // `BACKSTAY_WATCHDOG_TIMEOUT` has one underscore: only the similarity shows that it is meant for this library.
        let single = |name: &str| name.replace("__", "_");
        let resembles =
            |name: &str| name.len() < 100 && known.iter().any(|known| strsim::osa_distance(name, &single(known)) <= 1);
        for name in sources.variables.keys().filter_map(|name| name.to_str()) {
            let is_ours = name.contains("__") || resembles(name);
            if is_ours && !known.iter().any(|known| known == name) {
                let text = unknown(name, known.iter().map(String::as_str));
                self.content.warnings.push(Warning { origin: Origin::Environment(name.into()), text });
            }
        }
    }

    fn read_documents(&mut self, sources: &Sources) -> Result<(), ConfigError> {
        for document in sources.documents()? {
            self.content.files.push(document.path.to_path_buf());
            match document.section()? {
                Found::Section(section) => {
                    self.content.warnings.extend(distrusted(&document));
                    self.read_section(&document, &section).map_err(|error| error.shown_in(&document.text))?;
                }
                Found::Others(others) if document.is_ours => self.content.warnings.push(unused(&document, &others)),
                Found::Others(_) => {}
            }
        }
        Ok(())
    }

    fn read_section(&mut self, document: &Document, section: &Spanned<Section>) -> Result<(), ConfigError> {
        for (name, component) in entries(document, "resilience", section)? {
            match keys::COMPONENTS.into_iter().find(|known| name.is(known)) {
                Some(known) => {
                    if let Err(error) = self.read_component(document, known, component) {
                        self.add_error(known, || error.shown_in(&document.text));
                    }
                }
                None => self.unknown(document, &name, keys::COMPONENTS.into_iter()),
            }
        }
        Ok(())
    }

    fn read_component(
        &mut self,
        document: &Document,
        component: &'static str,
        node: &Spanned<Component>,
    ) -> Result<(), ConfigError> {
        let keys = keys::of(component);
        let has_instances = keys.clone().any(|key| key.instance.is_some());
        let mut given: Vec<(&Key, Name<'_>)> = Vec::new();
        for (name, entry) in entries(document, &format!("resilience.{component}"), node)? {
            if has_instances && name.is("instances") {
                if let Err(error) = self.read_instances(document, component, &name.path, entry) {
                    self.add_error(component, || error.shown_in(&document.text));
                }
            } else if let Some(key) = keys.clone().find(|key| key.section.iter().any(|spelling| name.is(spelling))) {
                // Two spellings, or two keys of one setting, are a duplicate.
                if let Some((_, first)) = given.iter().find(|(other, _)| keys::are_one_setting(other, key)) {
                    let error = document.duplicate(&name.path, name.node, first.node);
                    self.add_error(component, || error.shown_in(&document.text));
                    continue;
                }
                self.set_from_file(document, key, None, &name.path, entry);
                given.push((key, name));
            } else {
                let instances = has_instances.then_some("instances");
                let known = keys.clone().flat_map(|key| key.section.iter().copied()).chain(instances);
                self.unknown(document, &name, known);
            }
        }
        Ok(())
    }

    fn read_instances(
        &mut self,
        document: &Document,
        component: &'static str,
        path: &str,
        node: &Spanned<Entry>,
    ) -> Result<(), ConfigError> {
        for (instance, node) in entries(document, path, node)? {
            let keys = entries(document, &instance.path, node);
            let mut given: Vec<(&Key, Name<'_>)> = Vec::new();
            for (name, value) in keys.unwrap_or_else(|error| {
                self.add_error(component, || error.shown_in(&document.text));
                Vec::new()
            }) {
                match keys::of(component).find(|key| key.instance.is_some_and(|spelling| name.is(spelling))) {
                    Some(key) => {
                        if let Some((_, first)) = given.iter().find(|(other, _)| keys::are_one_setting(other, key)) {
                            let error = document.duplicate(&name.path, name.node, first.node);
                            self.add_error(component, || error.shown_in(&document.text));
                            continue;
                        }
                        self.set_from_file(document, key, Some(&instance.text), &name.path, value);
                        given.push((key, name));
                    }
                    None => self.unknown(document, &name, keys::of(component).filter_map(|key| key.instance)),
                }
            }
        }
        Ok(())
    }

    fn set_from_file<T>(
        &mut self,
        document: &Document,
        key: &'static Key,
        instance: Option<&str>,
        path: &str,
        node: &Spanned<Node<T>>,
    ) {
        let length = node.defined.span().len();
        let written = node.value.written();
        self.set_value(key, instance, path, &written, document.origin(node), |error| {
            error.with_length(length).shown_in(&document.text)
        });
    }

    /// Sets the value of a key, unless a source that takes precedence has set it.
    fn set_value(
        &mut self,
        key: &'static Key,
        instance: Option<&str>,
        path: &str,
        written: &Written,
        origin: Origin,
        show: impl FnOnce(ConfigError) -> ConfigError,
    ) {
        let (value, clamped) = match key.kind.convert(written) {
            _ if *written == Written::Nothing => return,
            Conversion::Valid(value) => (value, None),
            Conversion::Clamped(value) => {
                let bounds = key.kind.bounds();
                (value, Some(format!("`{path}` is {written}, outside {bounds}; {value} is used")))
            }
            Conversion::Invalid => {
                return self.add_error(key.component, || {
                    let error = ConfigError::new(origin, format!("is {written}"));
                    show(error.with_key(path).with_allowed(key.kind.allowed()))
                });
            }
        };
        let id = (key.component, instance.map(str::to_owned), key.name());
        self.content.values.entry(id).or_insert(StoredValue { value, origin, clamped });
    }

    fn add_error(&mut self, component: &'static str, error: impl FnOnce() -> ConfigError) {
        if self.errors.len() < MAX_ERRORS || self.errors.iter().all(|error| error.component() != Some(component)) {
            self.errors.push(error().in_component(component));
        }
    }

    fn unknown<'a>(&mut self, document: &Document, name: &Name<'_>, known: impl Iterator<Item = &'a str>) {
        let text = match self.content.warnings.len().cmp(&MAX_WARNINGS) {
            Ordering::Less => unknown_in(&name.path, &name.text, known),
            Ordering::Equal => "more keys are not known and are ignored; they are not listed".to_owned(),
            Ordering::Greater => return,
        };
        self.content.warnings.push(Warning { origin: document.origin(name.node), text });
    }
}

/// A key in a file.
struct Name<'a> {
    text: String,
    path: String,
    node: &'a Spanned<Leaf>,
}

impl Name<'_> {
    fn is(&self, known: &str) -> bool {
        self.text == known
    }
}

/// Returns the entries of the mapping at `path`, none for an empty value. A duplicate key is an error.
fn entries<'a, T>(
    document: &Document,
    path: &str,
    node: &'a Spanned<Node<T>>,
) -> Result<Vec<(Name<'a>, &'a Spanned<T>)>, ConfigError> {
    let mapping = match &node.value {
        Node::Mapping(mapping) => mapping,
        Node::Leaf(Written::Nothing) => return Ok(Vec::new()),
        Node::Leaf(other) => {
            return Err(document.error(node, path, format!("is {other}")).with_allowed("a mapping"));
        }
    };
    let mut seen: BTreeMap<String, &Spanned<Leaf>> = BTreeMap::new();
    let mut named = Vec::new();
    for (key, value) in mapping {
        let text = match key.value.written() {
            Written::Text(text) => text,
            wrong @ (Written::List | Written::Mapping) => {
                return Err(document.error(key, path, format!("has a key that is {wrong}")).with_allowed("a name"));
            }
            // A name such as `0404` or `yes` is used as it is written.
            other => document.raw(key).map_or_else(|| other.to_string(), str::to_owned),
        };
        let name = Name { path: format!("{path}.{}", keys::shortened(&text)), text, node: key };
        if let Some(first) = seen.insert(name.text.clone(), key) {
            return Err(document.duplicate(&name.path, key, first));
        }
        named.push((name, value));
    }
    Ok(named)
}

fn distrusted(document: &Document) -> Option<Warning> {
    let why = document.distrusted.as_ref()?;
    let text = format!("{why}: others can change this program's settings; correct its owner and mode");
    Some(Warning { origin: document.whole(), text })
}

/// Returns the warning about a file for this library that has no section `resilience`, only `keys`.
fn unused(document: &Document, keys: &[Spanned<Leaf>]) -> Warning {
    let named = |key: &Spanned<Leaf>| match key.value.written() {
        Written::Text(name) => name,
        _ => String::new(),
    };
    let at = |key: &Spanned<Leaf>, text: String| Warning { origin: document.origin(key), text };
    if let Some(key) = keys.iter().find(|key| keys::is_near(&named(key), SECTION)) {
        return at(key, unknown(&keys::shortened(&named(key)), [SECTION].into_iter()));
    }
    if let Some(key) = keys.iter().find(|key| keys::COMPONENTS.contains(&named(key).as_str())) {
        return at(key, format!("`{}` is outside the section `{SECTION}` and is ignored", named(key)));
    }
    Warning { origin: document.whole(), text: format!("has no section `{SECTION}`: nothing in it is used") }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    unknown_in(name, name, known)
}

fn unknown_in<'a>(path: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let hint = keys::nearest(name, known).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
    format!("`{path}` is not known and is ignored{hint}")
}
