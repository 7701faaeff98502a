//! The section `resilience` of a YAML file, as a tree with the position of each node.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, NonFiniteFloatPolicy, Spanned};

use super::error::{ConfigError, Origin, Place};
use super::keys::Written;

/// A value, or a mapping to `T`s.
///
/// The type is as deep as the section can be valid, so a file with deep nesting cannot cause deep recursion.
#[derive(Debug)]
pub(super) enum Node<T> {
    Leaf(Written),
    Mapping(Vec<(Spanned<Leaf>, Spanned<T>)>),
}

/// A value, or a mapping that is too deep to be read.
pub(super) type Leaf = Node<IgnoredAny>;
/// A named instance: keys to values.
pub(super) type Instance = Node<Leaf>;
/// `instances`: names to instances; for any other key, a plain value.
pub(super) type Entry = Node<Instance>;
/// `circuit_breaker` and so on: keys to values, and `instances`.
pub(super) type Component = Node<Entry>;
/// `resilience`: names of components to components.
pub(super) type Section = Node<Component>;

impl<T> Node<T> {
    pub(super) fn written(&self) -> Written {
        match self {
            Self::Leaf(written) => written.clone(),
            Self::Mapping(_) => Written::Mapping,
        }
    }
}

/// A file's text, and its name for messages.
pub(super) struct Document {
    pub(super) path: Arc<Path>,
    pub(super) text: String,
    /// Named explicitly, or called `backstay.yml`; any other file may belong to other programs as well.
    pub(super) is_ours: bool,
    /// Why other users could have written the file, if they could.
    pub(super) distrusted: Option<String>,
}

/// The result of looking for the section.
pub(super) enum Found {
    Section(Spanned<Section>),
    /// The file has no section `resilience`; these are its first keys.
    Others(Vec<Spanned<Leaf>>),
}

/// The most other keys to keep, for a hint at the one that is probably a misspelt `resilience`.
const MAX_OTHER_KEYS: usize = 50;

impl Document {
    /// Reads the section `resilience`, if the file has one.
    pub(super) fn section(&self) -> Result<Found, ConfigError> {
        let options = serde_saphyr::options! {
            // Checked later, in our section only: our error shows both positions.
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
            with_snippet: false,
            // Aliases in a megabyte of text must not expand to a gigabyte.
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        };
        let top: Top =
            serde_saphyr::from_str_with_options(&self.text, options).map_err(|error| self.invalid(&error))?;
        match top {
            Top::Other(written) => Err(ConfigError::new(self.whole(), format!("the file is {written}"))
                .with_allowed("a mapping, `resilience:` one of its keys")),
            Top::Sections { ours, others } => {
                let mut ours = ours.into_iter();
                let Some((first, section)) = ours.next() else { return Ok(Found::Others(others)) };
                match ours.next() {
                    Some((again, _)) => Err(self.duplicate("resilience", &again, &first).shown_in(&self.text)),
                    None => Ok(Found::Section(section)),
                }
            }
        }
    }

    /// Returns the text of `node`.
    pub(super) fn raw<T>(&self, node: &Spanned<T>) -> Option<&str> {
        let span = node.defined.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let length = usize::try_from(span.byte_len()?).ok()?;
        self.text.get(start..start.checked_add(length)?)
    }

    pub(super) fn whole(&self) -> Origin {
        Origin::File { path: Arc::clone(&self.path), place: None }
    }

    /// Returns the position of `node`; for an alias, that of the anchor.
    pub(super) fn origin<T>(&self, node: &Spanned<T>) -> Origin {
        self.at(node.defined)
    }

    /// Creates an error at `node`, without a snippet.
    pub(super) fn error<T>(&self, node: &Spanned<T>, key: &str, wrong: impl Into<String>) -> ConfigError {
        ConfigError::new(self.origin(node), wrong).with_key(key).with_length(node.defined.span().len())
    }

    pub(super) fn duplicate<T>(&self, key: &str, again: &Spanned<T>, first: &Spanned<T>) -> ConfigError {
        self.error(again, key, format!("is given twice, first on line {}", first.defined.line()))
    }

    fn at(&self, location: serde_saphyr::Location) -> Origin {
        let place = Place { line: location.line(), column: location.column() };
        Origin::File { path: Arc::clone(&self.path), place: (location.line() > 0).then_some(place) }
    }

    fn invalid(&self, error: &Error) -> ConfigError {
        let text = error.to_string();
        // The parser's text ends with the position, with which our text begins.
        let text = text.split(" at line ").next().unwrap_or_default();
        let wrong = match error {
            Error::MultipleDocuments { .. } => "a second document begins here, but there must be only one",
            _ if text.starts_with("budget breached") || text.contains("limit exceeded") => {
                "too large or too deep for a configuration"
            }
            _ => text,
        };
        let origin = error.location().map_or_else(|| self.whole(), |location| self.at(location));
        ConfigError::new(origin, wrong).shown_in(&self.text)
    }
}

/// A whole file, of which only the section `resilience` is kept.
enum Top {
    Sections { ours: Vec<(Spanned<Leaf>, Spanned<Section>)>, others: Vec<Spanned<Leaf>> },
    Other(Written),
}

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor::<Self>(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Node<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor::<Self>(PhantomData))
    }
}

/// Types that are built from a plain value or a mapping.
trait FromYaml<'de>: Sized {
    fn leaf(written: Written) -> Self;
    fn mapping<A: MapAccess<'de>>(entries: A) -> Result<Self, A::Error>;
}

impl<'de, T: Deserialize<'de>> FromYaml<'de> for Node<T> {
    fn leaf(written: Written) -> Self {
        Self::Leaf(written)
    }

    fn mapping<A: MapAccess<'de>>(mut entries: A) -> Result<Self, A::Error> {
        let mut read = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            read.push(entry);
        }
        Ok(Self::Mapping(read))
    }
}

impl<'de> FromYaml<'de> for Top {
    fn leaf(written: Written) -> Self {
        match written {
            Written::Nothing => Self::Sections { ours: Vec::new(), others: Vec::new() },
            other => Self::Other(other),
        }
    }

    fn mapping<A: MapAccess<'de>>(mut entries: A) -> Result<Self, A::Error> {
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        while let Some(key) = entries.next_key::<Spanned<Leaf>>()? {
            if matches!(&key.value, Node::Leaf(Written::Text(name)) if name == "resilience") {
                ours.push((key, entries.next_value()?));
            } else {
                entries.next_value::<IgnoredAny>()?;
                if others.len() < MAX_OTHER_KEYS {
                    others.push(key);
                }
            }
        }
        Ok(Self::Sections { ours, others })
    }
}

struct NodeVisitor<S>(PhantomData<S>);

/// Accepts every YAML value: values are validated later, when the key is known.
#[allow(clippy::cast_precision_loss)] // bounds are far below 2^53
impl<'de, S: FromYaml<'de>> Visitor<'de> for NodeVisitor<S> {
    type Value = S;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<S, E> {
        Ok(S::leaf(Written::Nothing))
    }

    fn visit_none<E>(self) -> Result<S, E> {
        Ok(S::leaf(Written::Nothing))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<S, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<S, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<S, E> {
        Ok(S::leaf(Written::Flag(flag)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<S, E> {
        Ok(S::leaf(Written::Number(number as f64)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<S, E> {
        Ok(S::leaf(Written::Number(number as f64)))
    }

    fn visit_i128<E>(self, number: i128) -> Result<S, E> {
        Ok(S::leaf(Written::Number(number as f64)))
    }

    fn visit_u128<E>(self, number: u128) -> Result<S, E> {
        Ok(S::leaf(Written::Number(number as f64)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<S, E> {
        Ok(S::leaf(Written::Number(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<S, E> {
        Ok(S::leaf(Written::Text(text.to_owned())))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<S, E> {
        Ok(S::leaf(Written::Text(String::from_utf8_lossy(bytes).into_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<S, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(S::leaf(Written::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<S, A::Error> {
        S::mapping(entries)
    }
}
