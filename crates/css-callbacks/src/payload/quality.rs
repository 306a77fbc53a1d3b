//! Quality control (343, page 73166), the evaluation threshold (344, page 73167) and average (345, page 73168).

use crate::wire::open::open_text;
use crate::wire::{Float, wire};

wire! {
    /// A finding of quality control.
    ///
    /// Documentation: page 73166 (mainland: 122602).
    pub struct QualityControl: callback {
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, also called AppName.
        pub appname: Option<String> = text,
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// When it happened, UNIX seconds.
        pub event_time: Option<i64> = number,
        /// The id of the transcoding template.
        pub transcode_template_id: Option<i64> = number,
        /// The id of the watermark template.
        pub watermark_template_id: Option<i64> = number,
        /// The score.
        pub score: Option<Float> = float,
        /// The function: `QualityControl`.
        pub function: Option<Function> = word,
        /// What was found.
        pub class: Option<QualityClass> = word,
    }
}

wire! {
    /// Frames whose score is below the threshold.
    ///
    /// Documentation: page 73167.
    pub struct AssessmentThreshold: callback {
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, also called AppName.
        pub appname: Option<String> = text,
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// When it happened, UNIX seconds.
        pub event_time: Option<i64> = number,
        /// The id of the transcoding template.
        pub transcode_template_id: Option<i64> = number,
        /// The id of the watermark template; absent for the metrics that compare with the source.
        pub watermark_template_id: Option<i64> = number,
        /// The frames below the threshold.
        pub frames: Option<Vec<Frame>> = list(object),
        /// The function: `Assessment`.
        pub function: Option<Function> = word,
        /// The metric.
        pub class: Option<Metric> = word,
    }
}

wire! {
    /// The scores of a period. Its `event_type` is 344 in every sample.
    ///
    /// Documentation: page 73168 (mainland: 122603).
    pub struct AssessmentAverage: callback {
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, also called AppName.
        pub appname: Option<String> = text,
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// When it happened, UNIX seconds.
        pub event_time: Option<i64> = number,
        /// The id of the transcoding template.
        pub transcode_template_id: Option<i64> = number,
        /// The id of the watermark template; absent for the metrics that compare with the source.
        pub watermark_template_id: Option<i64> = number,
        /// The average score.
        pub average_score: Option<Float> = float,
        /// The highest score.
        pub max_score: Option<Float> = float,
        /// The lowest score.
        pub min_score: Option<Float> = float,
        /// All frames.
        pub frames: Option<Vec<Frame>> = list(object),
        /// The function: `Assessment`.
        pub function: Option<Function> = word,
        /// The metric.
        pub class: Option<Metric> = word,
    }
}

wire! {
    /// A scored frame.
    pub struct Frame {
        /// The score.
        pub score: Option<Float> = float,
        /// The time of the frame, UNIX milliseconds.
        pub time: Option<i64> = number,
    }
}

open_text! {
    /// The function that sends a callback.
    pub enum Function {
        /// Quality control.
        QualityControl = "QualityControl",
        /// Evaluation.
        Assessment = "Assessment",
    }
}

open_text! {
    /// How quality is measured.
    pub enum Metric {
        /// Peak signal-to-noise ratio.
        Psnr = "PSNR",
        /// Structural similarity.
        Ssim = "SSIM",
        /// Video multi-method assessment fusion.
        Vmaf = "VMAF",
        /// Video quality assessment without the source.
        Vqa = "VQA",
    }
}

open_text! {
    /// What quality control finds. A monitor has the same names for anomalies of the format.
    pub enum QualityClass {
        /// Format: the resolution changed.
        VideoResolutionChanged = "VideoResolutionChanged",
        /// Format: the audio sample rate changed.
        AudioSampleRateChanged = "AudioSampleRateChanged",
        /// Format: the number of audio channels changed.
        AudioChannelsChanged = "AudioChannelsChanged",
        /// Format: the parameter sets changed.
        ParameterSetsChanged = "ParameterSetsChanged",
        /// Format: the aspect ratio is invalid.
        DarOrSarInvalid = "DarOrSarInvalid",
        /// Format: timestamps go back.
        TimestampFallback = "TimestampFallback",
        /// Format: decoding timestamps jitter.
        DtsJitter = "DtsJitter",
        /// Format: presentation timestamps jitter.
        PtsJitter = "PtsJitter",
        /// Format: the duration of AAC frames deviates.
        AacDurationDeviation = "AACDurationDeviation",
        /// Format: audio frames are missing.
        AudioDroppingFrames = "AudioDroppingFrames",
        /// Format: video frames are missing.
        VideoDroppingFrames = "VideoDroppingFrames",
        /// Format: audio and video timestamps are badly interleaved.
        AvTimestampInterleave = "AVTimestampInterleave",
        /// Format: the frame rate jitters.
        FpsJitter = "FpsJitter",
        /// Format: the stream cannot be opened.
        StreamOpenFailed = "StreamOpenFailed",
        /// Format: the stream cannot be parsed.
        StreamParseFailed = "StreamParseFailed",
        /// Format: the first video frame is no key frame.
        VideoFirstFrameNotIdr = "VideoFirstFrameNotIdr",
        /// Content: blocks in the picture.
        Mosaic = "Mosaic",
        /// Content: a corrupted screen.
        CrashScreen = "CrashScreen",
        /// Content: a blurred picture.
        Blur = "Blur",
        /// Content: noise in the picture.
        VideoNoise = "VideoNoise",
        /// Content: a shaking picture.
        VideoJitter = "VideoJitter",
        /// Content: too dark.
        LowLight = "LowLight",
        /// Content: too bright.
        Overexposure = "Overexposure",
        /// Content: black or white edges.
        BlackWhiteEdge = "BlackWhiteEdge",
        /// Content: a screen of one colour.
        SolidColorScreen = "SolidColorScreen",
        /// Content: a QR code.
        QrCode = "QRCode",
        /// Content: a bar code.
        Barcode = "Barcode",
        /// Content: a code of a mini program.
        AppletCode = "AppletCode",
        /// Content: no sound.
        Silence = "Silence",
        /// Content: sound too low.
        LowVoice = "LowVoice",
        /// Content: sound too loud.
        HighVoice = "HighVoice",
    }
}
