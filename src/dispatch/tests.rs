#![allow(clippy::unwrap_used)]

mod at_once;
mod bench;
mod clocks;
mod commands;
mod deletion;
mod failures;
mod idle;
mod model;
mod order;
mod pauses;
mod projection;
mod restarts;

use std::time::Duration;

use self::bench::{Act, Bench, Fake, ages, eventually};
use super::*;
use crate::handler::Handler;
