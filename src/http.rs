//! HTTP: errors, endpoints, layers, listeners.

pub mod api;
pub mod error;
pub mod ruma;

pub use self::{
    api::{Api, Authentication, Route},
    error::ApiError,
    ruma::Ruma,
};
