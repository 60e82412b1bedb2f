package org.classkinfy.core

/** The classes in output order, which of them are graded or malignant, and the proxy grades. */
class Taxonomy(
    @JvmField val classes: List<String>,
    @JvmField val graded: List<String>,
    @JvmField val malignant: List<String>,
    @JvmField val severities: List<String>,
    @JvmField val names: Map<String, String>,
) {
    /** The display name of a class, the class itself when none is given. */
    fun title(diagnosis: String): String = names[diagnosis] ?: diagnosis
}

/** How the bytes of an image lie; see `classkinfy_export.contract.Capture`. */
enum class Layout { RGB, RGBA, NV21 }

/** How a photo of another shape is fitted: the centre is cut out, or black bars are added. */
enum class Fit { CROP, PAD }

/** The image that the bundle takes. */
class Capture(@JvmField val height: Int, @JvmField val width: Int, @JvmField val layout: Layout) {
    val shape: IntArray
        get() = when (layout) {
            Layout.RGB -> intArrayOf(1, height, width, 3)
            Layout.RGBA -> intArrayOf(1, height, width, 4)
            Layout.NV21 -> intArrayOf(1, height * 3 / 2, width)
        }
}

/** A threshold on a quality measure; rule i sets bit i of `reasons`. One of the limits is null. */
class QualityRule(
    @JvmField val measure: String,
    @JvmField val reason: String,
    @JvmField val above: Float?,
    @JvmField val below: Float?,
    @JvmField val refuses: Boolean,
)

enum class StageKind { PREPARE, SCREEN, CLASSIFY, GRADE, PIPELINE }

/** A stage reads its inputs by name from what earlier stages gave. */
class StageSpec(
    @JvmField val name: String,
    @JvmField val kind: StageKind,
    @JvmField val inputs: List<TensorSpec>,
    @JvmField val outputs: List<TensorSpec>,
    /** The class that a grade stage grades. */
    @JvmField val diagnosis: String?,
)

/** A model file; [entries] maps a stage to its graph or signature. */
class ModelFile(
    @JvmField val path: String,
    @JvmField val format: String,
    @JvmField val precision: String,
    @JvmField val entries: Map<String, String>,
)

class FileEntry(@JvmField val sha256: String, @JvmField val sizeBytes: Long)

/** `manifest.json`, checked: what refers to something refers to something that is there. */
class Manifest internal constructor(
    @JvmField val name: String,
    @JvmField val disclaimer: String,
    @JvmField val severityNotice: String,
    @JvmField val weightsLicence: String,
    @JvmField val taxonomy: Taxonomy,
    @JvmField val capture: Capture,
    @JvmField val fit: Fit,
    @JvmField val qualityMeasures: List<String>,
    @JvmField val qualityRules: List<QualityRule>,
    /** In the order in which they run. */
    @JvmField val stages: List<StageSpec>,
    /** The fused graph, when a model file holds one. */
    @JvmField val pipeline: StageSpec?,
    @JvmField val models: List<ModelFile>,
    @JvmField val parity: Parity,
    @JvmField val files: Map<String, FileEntry>,
) {
    /** What runs on every image: all but the graders. */
    val unrouted: List<StageSpec> get() = stages.filter { it.kind != StageKind.GRADE }

    fun grader(diagnosis: String): StageSpec? = stages.firstOrNull { it.diagnosis == diagnosis }

    fun model(stage: String, format: String, precision: String): ModelFile? =
        models.firstOrNull { stage in it.entries && it.format == format && it.precision == precision }

    /** The precisions that there are in a format, the one to prefer first: int8, then fp32. */
    fun precisions(format: String): List<String> =
        models.filter { it.format == format }.map { it.precision }.distinct().sortedBy { precision ->
            PREFERRED.indexOfFirst { precision.startsWith(it) }.let { if (it < 0) PREFERRED.size else it }
        }

    companion object {
        const val SCHEMA_VERSION = 2
        const val PIPELINE = "pipeline"

        /** What has int8 activations begins so. */
        const val CALIBRATED = "static_"
        private val PREFERRED = listOf(CALIBRATED, "fp32", "fp16")

        /** @throws BundleException it is no manifest, of another version, or contradicts itself */
        @JvmStatic
        fun parse(data: ByteArray): Manifest = ManifestReader(Json.parse(data, "manifest.json")).read()
    }
}
