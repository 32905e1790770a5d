//! Models as people hold them: folders, checkpoints, pipelines; with words and LoRAs; and what is none.

mod checkpoints;
mod common;
mod configurations;
mod folders;
mod limits;
mod loras;
mod pickles;
mod pipelines;
mod prompts;
mod quality;
mod refusals;
mod same_plan;
mod tokenizers;
mod verify;
mod verify_images;
mod words;
