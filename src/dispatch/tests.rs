#![allow(clippy::unwrap_used)]

mod at_once;
mod clocks;
mod commands;
mod deletion;
mod failures;
mod harness;
mod idle;
mod model;
mod order;
mod pauses;
mod projection;
mod restarts;

use std::time::Duration;

use self::harness::{Act, Fake, Harness, all_time, eventually};
use super::*;
use crate::event::{Event, Seq};
use crate::handler::Handler;
use crate::inbox::delivery::RowCounts;
