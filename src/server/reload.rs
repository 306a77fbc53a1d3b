//! Changes sources and handlers of a running server: all of them, or none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::board::BoardProjection;
use super::{CustomHandlers, StartError};
use crate::clock::Clock;
use crate::config::Config;
use crate::dispatch::settings::HandlerConfig;
use crate::dispatch::{Built, Dispatch};
use crate::event::PayloadForm;
use crate::handler::Handler;
use crate::handlers::HandlerTarget;
use crate::ingress::{Ingress, Sources};
use crate::settings::Env;
use crate::streams::Subscribed;

/// The longest time to set up one handler.
const BUILD_WITHIN: Duration = Duration::from_secs(10);

/// Changes the sources and handlers of a running server.
pub struct Reloader {
    current: Mutex<(Config, BTreeMap<String, Built>)>,
    custom: CustomHandlers,
    ingress: Arc<Ingress>,
    dispatch: Arc<Dispatch>,
    board_projection: BoardProjection,
    clock: Clock,
}

impl Reloader {
    pub(super) fn new(
        config: Config,
        custom: CustomHandlers,
        built: BTreeMap<String, Built>,
        ingress: Arc<Ingress>,
        dispatch: Arc<Dispatch>,
        board_projection: BoardProjection,
        clock: Clock,
    ) -> Self {
        Self {
            current: Mutex::new((config, built)),
            custom,
            ingress,
            dispatch,
            board_projection,
            clock,
        }
    }

    /// The derived kinds that handlers subscribe to.
    pub(super) fn subscribed(&self) -> Arc<Subscribed> {
        self.board_projection.subscribed()
    }

    /// The active configuration.
    pub async fn config(&self) -> Config {
        self.current.lock().await.0.clone()
    }

    /// Applies the sources and handlers of another configuration. A change in any other section is
    /// logged and needs a restart.
    ///
    /// # Errors
    ///
    /// Fails if a handler cannot be set up, or if the store fails. Then nothing has changed.
    pub async fn reload(&self, config: Config) -> Result<(), StartError> {
        let mut current = self.current.lock().await;
        // Sources first and at once: the sender may be waiting, for a missing key for example.
        self.ingress.replace_sources(sources(&config));
        let changed = async {
            let built = build(&config, &self.custom, &current.1, &self.clock).await?;
            self.dispatch
                .change_to(self.board_projection.with(&built))
                .await?;
            Ok::<_, StartError>(built)
        };
        let built = match changed.await {
            Ok(built) => built,
            Err(error) => {
                self.ingress.replace_sources(sources(&current.0));
                return Err(error);
            }
        };
        for section in sections_that_differ(&current.0, &config) {
            tracing::warn!(section, "this section has changed, which needs a restart");
        }
        self.board_projection.subscribe(&built);
        // The other sections keep their old values until a restart.
        let (old, _) = &*current;
        let config = Config {
            server: old.server.clone(),
            admin: old.admin.clone(),
            log: old.log.clone(),
            inbox: old.inbox.clone(),
            streams: old.streams.clone(),
            ..config
        };
        *current = (config, built);
        tracing::info!("sources and handlers are reloaded");
        Ok(())
    }
}

fn sections_that_differ(old: &Config, new: &Config) -> impl Iterator<Item = &'static str> {
    let differs = [
        ("server", old.server != new.server),
        ("admin", old.admin != new.admin),
        ("log", old.log != new.log),
        ("inbox", old.inbox != new.inbox),
        ("streams", old.streams != new.streams),
    ];
    differs
        .into_iter()
        .filter_map(|(section, differs)| differs.then_some(section))
}

pub(super) fn sources(config: &Config) -> Sources {
    config
        .sources
        .iter()
        .map(|(name, source)| (name.clone(), Arc::new(source.clone())))
        .collect()
}

/// Builds the handlers of a configuration. Handlers that have not changed are kept.
pub(super) async fn build(
    config: &Config,
    custom: &CustomHandlers,
    existing: &BTreeMap<String, Built>,
    clock: &Clock,
) -> Result<BTreeMap<String, Built>, StartError> {
    let problem = |name: &str, problem: String| StartError::Handler {
        name: name.to_owned(),
        problem,
    };
    let mut built = BTreeMap::new();
    for (name, settings) in &config.handlers {
        if let Some(same) = existing
            .get(name)
            .filter(|existing| *existing.settings == *settings)
        {
            built.insert(name.clone(), same.clone());
            continue;
        }
        let handler: Arc<dyn Handler> = match (&settings.target, custom.get(name)) {
            (Some(target), None) => build_target(target, name, settings.payload, clock)
                .await
                .map_err(|error| problem(name, format!("{error:#}")))?,
            (None, Some(handler)) => handler.clone(),
            (None, None) => {
                return Err(problem(
                    name,
                    "has no `to`; name the target of its events".to_owned(),
                ));
            }
            (Some(_), Some(_)) => {
                return Err(problem(
                    name,
                    "is written in Rust, so its section must not have a `to`".to_owned(),
                ));
            }
        };
        built.insert(
            name.clone(),
            Built {
                settings: Arc::new(settings.clone()),
                handler: handler.into(),
            },
        );
    }
    for (name, handler) in custom {
        if !built.contains_key(name) {
            let env = Env {
                base: &config.file,
                variable: &|_| None,
            };
            let sources = config.sources.keys().map(String::as_str).collect();
            let settings = HandlerConfig::default().validate(name, &sources, &env);
            let settings = settings.map_err(|error| problem(name, error.problem))?;
            built.insert(
                name.clone(),
                Built {
                    settings: Arc::new(settings),
                    handler: handler.clone().into(),
                },
            );
        }
    }
    Ok(built)
}

/// Builds a handler on a blocking thread and within a time limit, because opening a file may hang.
async fn build_target(
    target: &HandlerTarget,
    name: &str,
    form: PayloadForm,
    clock: &Clock,
) -> anyhow::Result<Arc<dyn Handler>> {
    let (target, name, clock) = (target.clone(), name.to_owned(), clock.clone());
    let building = spawn_blocking(move || target.build(&name, form, &clock));
    match timeout(BUILD_WITHIN, building).await {
        Ok(built) => built?,
        Err(_) => bail!("could not be set up within {BUILD_WITHIN:?}, its file system may hang"),
    }
}
