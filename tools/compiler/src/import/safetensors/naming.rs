//! The two ways in which checkpoints name the tensors of a CLIP text tower, and where in a file towers are.

use std::collections::BTreeSet;

/// How a tower's tensors are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Naming {
    /// transformers: `encoder.layers.0.self_attn.q_proj.weight`.
    HuggingFace,
    /// OpenAI's own and OpenCLIP: `transformer.resblocks.0.attn.in_proj_weight`, query, key and value in one.
    OpenClip,
}

/// A tower in a file: what its tensors' names begin with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Up to and with the last dot before the names of [`Naming`]; may be empty.
    pub prefix: String,
    /// The rest.
    pub naming: Naming,
}

const HUGGING_FACE_TABLE: &str = "embeddings.token_embedding.weight";
const OPEN_CLIP_TABLE: &str = "token_embedding.weight";

/// All towers among `names`, in order of their prefixes.
pub fn locate<'n>(names: impl Iterator<Item = &'n str>) -> Vec<Location> {
    let mut found = BTreeSet::new();
    for name in names {
        let (prefix, naming) =
            match (name.strip_suffix(HUGGING_FACE_TABLE), name.strip_suffix(OPEN_CLIP_TABLE)) {
                (Some(prefix), _) => (prefix, Naming::HuggingFace),
                (None, Some(prefix)) => (prefix, Naming::OpenClip),
                (None, None) => continue,
            };
        if prefix.is_empty() || prefix.ends_with('.') {
            found.insert(Location { prefix: prefix.to_owned(), naming });
        }
    }
    found.into_iter().collect()
}

/// Names of a layer's parts, for either naming.
pub struct LayerNames {
    /// `[query, key, value]`, or one name where they are one tensor; without `.weight` or `_weight`.
    pub attention_in: Vec<String>,
    /// What is between a linear's name and `weight` in `attention_in`: `.` or `_`.
    pub attention_joint: char,
    /// The attention's output.
    pub attention_out: String,
    /// The two norms.
    pub norms: [String; 2],
    /// The two MLP matrices.
    pub mlp: [String; 2],
}

impl Location {
    /// A name of the tower.
    pub fn name(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// The token embedding.
    pub fn tokens(&self) -> String {
        self.name(match self.naming {
            Naming::HuggingFace => HUGGING_FACE_TABLE,
            Naming::OpenClip => OPEN_CLIP_TABLE,
        })
    }

    /// The position embedding.
    pub fn positions(&self) -> String {
        self.name(match self.naming {
            Naming::HuggingFace => "embeddings.position_embedding.weight",
            Naming::OpenClip => "positional_embedding",
        })
    }

    /// The position embedding that Long-CLIP has trained, in its original names.
    pub fn extended_positions(&self) -> Option<String> {
        (self.naming == Naming::OpenClip).then(|| self.name("positional_embedding_res"))
    }

    /// The last norm, without `.weight`.
    pub fn final_norm(&self) -> String {
        self.name(match self.naming {
            Naming::HuggingFace => "final_layer_norm",
            Naming::OpenClip => "ln_final",
        })
    }

    /// What every name of layer `index` begins with.
    pub fn layer_prefix(&self, index: usize) -> String {
        let layers = match self.naming {
            Naming::HuggingFace => "encoder.layers",
            Naming::OpenClip => "transformer.resblocks",
        };
        self.name(&format!("{layers}.{index}."))
    }

    /// The names of layer `index`.
    pub fn layer(&self, index: usize) -> LayerNames {
        let prefix = self.layer_prefix(index);
        let name = |rest: &str| format!("{prefix}{rest}");
        match self.naming {
            Naming::HuggingFace => LayerNames {
                attention_in: ["q", "k", "v"].map(|side| name(&format!("self_attn.{side}_proj"))).to_vec(),
                attention_joint: '.',
                attention_out: name("self_attn.out_proj"),
                norms: [name("layer_norm1"), name("layer_norm2")],
                mlp: [name("mlp.fc1"), name("mlp.fc2")],
            },
            Naming::OpenClip => LayerNames {
                attention_in: vec![name("attn.in_proj")],
                attention_joint: '_',
                attention_out: name("attn.out_proj"),
                norms: [name("ln_1"), name("ln_2")],
                mlp: [name("mlp.c_fc"), name("mlp.c_proj")],
            },
        }
    }

    /// Names that the projection may have, and whether the matrix has a row per input there.
    pub fn projections(&self) -> Vec<(String, bool)> {
        match self.naming {
            Naming::HuggingFace => {
                // The projection is beside the text model, not in it.
                let outer = self.prefix.strip_suffix("text_model.").unwrap_or(&self.prefix);
                vec![(format!("{outer}text_projection.weight"), false)]
            }
            Naming::OpenClip => {
                vec![(self.name("text_projection"), true), (self.name("text_projection.weight"), false)]
            }
        }
    }

    /// Names that the logarithm of the logit scale may have.
    pub fn logit_scales(&self) -> Vec<String> {
        vec![format!("{}logit_scale", self.outer())]
    }

    /// The prefix of the model that the tower is a part of, where it has one of its own in it.
    pub fn outer(&self) -> &str {
        let inner = ["text_model.", "text."].iter().find_map(|inner| self.prefix.strip_suffix(inner));
        inner.unwrap_or(&self.prefix)
    }

    /// Whether `root`, the first part of a name behind the prefix, is one that such a tower's tensors have: those that are
    /// read, and those that other programs' variants of it add.
    pub fn is_root(&self, root: &str) -> bool {
        match self.naming {
            Naming::HuggingFace => {
                ["embeddings", "encoder", "final_layer_norm", "text_projection"].contains(&root)
            }
            Naming::OpenClip => {
                let roots =
                    ["token_embedding", "transformer", "ln_final", "text_projection", "cls_emb", "ln_pre"];
                root.starts_with("positional_embedding") || roots.contains(&root)
            }
        }
    }

    /// The number of the layer that `name` belongs to.
    pub fn layer_of(&self, name: &str) -> Option<usize> {
        let first = self.layer_prefix(0);
        name.strip_prefix(first.strip_suffix("0.")?)?.split('.').next()?.parse().ok()
    }
}
