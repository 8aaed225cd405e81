//! The core's rules, each as a short story; and, in `property`, what must hold
//! whatever happens.

mod adoption;
mod contact;
mod images;
mod life;
mod orders;
mod property;
mod report;
mod world;
