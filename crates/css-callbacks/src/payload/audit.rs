//! What image and audio moderation share.

use crate::wire::open::open_text;

open_text! {
    /// What moderation suggests to do.
    pub enum Suggestion {
        /// Block it.
        Block = "Block",
        /// Have a person look at it.
        Review = "Review",
        /// Let it pass.
        Pass = "Pass",
    }
}

open_text! {
    /// What moderation found.
    pub enum Label {
        /// Nothing.
        Normal = "Normal",
        /// Pornography.
        Porn = "Porn",
        /// Abuse.
        Abuse = "Abuse",
        /// Advertising.
        Ad = "Ad",
        /// Something of the account's own library.
        Custom = "Custom",
        /// Illegal content.
        Illegal = "Illegal",
        /// Sexually suggestive content.
        Sexy = "Sexy",
        /// Terrorism.
        Terror = "Terror",
        /// Politics.
        Polity = "Polity",
        /// Minors.
        Teenager = "Teenager",
        /// Moaning.
        Moan = "Moan",
        /// The gender of a speaker.
        Gender = "Gender",
    }
}
