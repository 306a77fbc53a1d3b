//! livehook

pub mod clock;

pub mod json;

pub mod kind;

pub mod wire;

pub mod payload;

pub mod settings;

pub mod source;

pub mod identity;

pub mod callback;

pub mod auth;

pub mod event;

pub mod budget;

pub mod metrics;

pub mod inbox;

pub mod handler;

pub mod handlers;

pub mod dispatch;

pub mod rejected;

pub mod listener;

pub mod ingress;
