//! `[handlers.NAME]`: which events a handler gets, how, and what happens to failures.

use std::collections::BTreeSet;
use std::time::Duration;

use css_callbacks::Kind;
use globset::{GlobBuilder, GlobSet};
use serde::Deserialize;

use crate::event::{Event, PayloadForm};
use crate::handlers::{self, HandlerTarget, TargetConfig};
use crate::inbox::delivery::Start;
use crate::settings::{self, Env, Invalid};

/// `[handlers.NAME]` as the file has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HandlerConfig {
    /// The kinds that the handler gets.
    pub kinds: BTreeSet<Kind>,
    /// The sources whose events the handler gets; empty: all.
    pub sources: BTreeSet<String>,
    /// Globs over `appname/streamid`; empty: all events, also those without a stream. `*` and `?`
    /// match no slash, `**` does. For an event without an appname, only the streamid must match.
    pub streams: Vec<String>,
    /// Whether the events of a stream are delivered one after the other.
    pub order: DeliveryOrder,
    /// How many attempts may run side by side; none: the default of the target.
    pub concurrency: Option<usize>,
    /// How long an attempt may take.
    #[serde(deserialize_with = "settings::duration")]
    pub timeout: Duration,
    /// The form of `data`.
    pub payload: PayloadForm,
    /// When a failed delivery is retried.
    pub retry: Retry,
    /// Where a new handler starts.
    pub start: Start,
    /// The target of the events; none: a handler in code, given to `Server::builder`.
    pub to: Option<TargetConfig>,
}

impl Default for HandlerConfig {
    fn default() -> Self {
        Self {
            kinds: Kind::all_and_unknown().collect(),
            sources: BTreeSet::new(),
            streams: Vec::new(),
            order: DeliveryOrder::default(),
            concurrency: None,
            timeout: Duration::from_secs(10),
            payload: PayloadForm::default(),
            retry: Retry::default(),
            start: Start::default(),
            to: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliveryOrder {
    /// Events of one stream are delivered in arrival order, one at a time.
    #[default]
    Stream,
    /// All events are delivered side by side.
    None,
}

/// `retry`: how failed deliveries are retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Retry {
    /// The first pause. Each further failure doubles it.
    #[serde(deserialize_with = "settings::duration")]
    pub initial: Duration,
    /// The longest pause.
    #[serde(deserialize_with = "settings::duration")]
    pub max: Duration,
    /// The time from a delivery's first attempt until it is parked.
    #[serde(deserialize_with = "settings::duration")]
    pub max_age: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(5 * 60),
            max_age: Duration::from_secs(24 * 3600),
        }
    }
}

/// A validated [`HandlerConfig`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HandlerSettings {
    kinds: BTreeSet<Kind>,
    sources: BTreeSet<String>,
    streams: StreamGlobs,
    pub order: DeliveryOrder,
    pub concurrency: usize,
    pub timeout: Duration,
    pub payload: PayloadForm,
    pub retry: Retry,
    pub start: Start,
    /// The `type` of the target.
    pub target_type: Option<&'static str>,
    pub target: Option<HandlerTarget>,
}

/// Compiled globs. They are equal if their texts are equal.
#[derive(Debug, Clone)]
struct StreamGlobs {
    globs: Vec<String>,
    set: GlobSet,
    /// For events without an appname: the parts of the globs that match the streamid.
    streamid_set: GlobSet,
}

impl PartialEq for StreamGlobs {
    fn eq(&self, other: &Self) -> bool {
        self.globs == other.globs
    }
}

impl HandlerConfig {
    /// Validates the section. `sources` are the names of all sources.
    pub(crate) fn validate(
        &self,
        name: &str,
        sources: &BTreeSet<&str>,
        env: &Env,
    ) -> Result<HandlerSettings, Invalid> {
        let place = format!("handlers.{name}");
        let at = |key: &str| format!("{place}.{key}");
        settings::check_name(&place, name)?;
        if self.kinds.is_empty() {
            let problem =
                "lists no kind, so the handler would get no event; leave it out for all kinds";
            return Err(Invalid::at(at("kinds"), problem));
        }
        if let Some(unknown) = self
            .sources
            .iter()
            .find(|name| !sources.contains(name.as_str()))
        {
            let known: Vec<_> = sources.iter().map(|name| format!("`{name}`")).collect();
            let problem = format!(
                "there is no source `{unknown}`; known: {}",
                known.join(", ")
            );
            return Err(Invalid::at(at("sources"), problem));
        }
        let concurrency = match (self.concurrency, &self.to) {
            (Some(concurrency), _) => concurrency,
            (None, Some(to)) => to.concurrency(),
            (None, None) => handlers::CONCURRENCY,
        };
        if !(1..=1024).contains(&concurrency) {
            return Err(Invalid::at(at("concurrency"), "must be from 1 to 1024"));
        }
        settings::check_duration(at("timeout"), self.timeout)?;
        self.retry.check(&at("retry"))?;
        let target = match &self.to {
            Some(to) => Some(to.validate(&at("to"), env)?),
            None => None,
        };
        Ok(HandlerSettings {
            kinds: self.kinds.clone(),
            sources: self.sources.clone(),
            streams: StreamGlobs::compile(&self.streams, &at("streams"))?,
            order: self.order,
            concurrency,
            timeout: self.timeout,
            payload: self.payload,
            retry: self.retry,
            start: self.start,
            target_type: self.to.as_ref().map(TargetConfig::type_name),
            target,
        })
    }
}

impl Retry {
    fn check(&self, place: &str) -> Result<(), Invalid> {
        settings::check_duration(format!("{place}.initial"), self.initial)?;
        settings::check_duration(format!("{place}.max"), self.max)?;
        settings::check_duration(format!("{place}.max_age"), self.max_age)?;
        if self.initial > self.max {
            let problem = "must not be longer than `max`";
            return Err(Invalid::at(format!("{place}.initial"), problem));
        }
        Ok(())
    }
}

impl StreamGlobs {
    fn compile(globs: &[String], place: &str) -> Result<Self, Invalid> {
        let set = |globs: &[String]| {
            let mut set = GlobSet::builder();
            for text in globs {
                let glob = GlobBuilder::new(text).literal_separator(true).build();
                set.add(glob?);
            }
            set.build()
        };
        let invalid = |error: globset::Error| Invalid::at(place, error.to_string());
        let ids: Vec<String> = globs.iter().flat_map(|glob| streamid_globs(glob)).collect();
        Ok(Self {
            globs: globs.to_vec(),
            set: set(globs).map_err(invalid)?,
            streamid_set: set(&ids).map_err(invalid)?,
        })
    }

    fn matches(&self, event: &Event) -> bool {
        if self.globs.is_empty() {
            return true;
        }
        let attributes = event.attributes();
        let Some(stream) = &attributes.streamid else {
            return false;
        };
        match &attributes.appname {
            Some(app) => self.set.is_match(format!("{app}/{stream}")),
            None => self.streamid_set.is_match(stream),
        }
    }
}

/// The globs that match the streamid if there is no appname: the part of the glob after the first
/// slash. If that slash is within braces, each alternative gives its own globs. With `**` before
/// the slash the whole glob is one of them, because `**` may match more than the appname.
fn streamid_globs(glob: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut group = 0;
    let mut commas = Vec::new();
    let mut has_slash = false;
    let mut chars = glob.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => drop(chars.next()),
            '[' => {
                // A `]` that comes first does not end the class.
                chars.next();
                let _ = chars.find(|(_, char)| *char == ']');
            }
            '{' => {
                if depth == 0 {
                    (group, has_slash) = (at, false);
                    commas.clear();
                }
                depth += 1;
            }
            ',' if depth == 1 => commas.push(at),
            '/' if depth == 0 => {
                let whole = glob[..at].contains("**").then(|| glob.to_owned());
                return whole
                    .into_iter()
                    .chain([glob[at + 1..].to_owned()])
                    .collect();
            }
            '/' => has_slash = true,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && has_slash {
                    let begins = [group].into_iter().chain(commas.iter().copied());
                    let ends = commas.iter().copied().chain([at]);
                    let each = begins.zip(ends).flat_map(|(begin, end)| {
                        let one = &glob[begin + 1..end];
                        streamid_globs(&[&glob[..group], one, &glob[at + 1..]].concat())
                    });
                    return each.collect();
                }
            }
            _ => {}
        }
    }
    let crosses = glob.contains("**").then(|| glob.to_owned());
    crosses.into_iter().collect()
}

impl HandlerSettings {
    /// The settings of a projection, which gets every event.
    pub(crate) fn for_projection() -> Self {
        Self {
            kinds: Kind::all_and_unknown().collect(),
            sources: BTreeSet::new(),
            streams: StreamGlobs {
                globs: Vec::new(),
                set: GlobSet::empty(),
                streamid_set: GlobSet::empty(),
            },
            order: DeliveryOrder::None,
            concurrency: 1,
            // It sets the lease's term: so long after a crash another process takes over.
            timeout: Duration::from_secs(5),
            payload: PayloadForm::Original,
            retry: Retry::default(),
            start: Start::Oldest,
            target_type: None,
            target: None,
        }
    }

    pub(crate) fn wants(&self, event: &Event) -> bool {
        self.kinds.contains(&event.kind())
            && (self.sources.is_empty() || self.sources.contains(&**event.source()))
            && self.streams.matches(event)
    }

    pub(crate) fn kinds(&self) -> &BTreeSet<Kind> {
        &self.kinds
    }

    pub(crate) fn sources(&self) -> &BTreeSet<String> {
        &self.sources
    }

    pub(crate) fn streams(&self) -> &[String] {
        &self.streams.globs
    }
}

#[cfg(test)]
mod tests;
