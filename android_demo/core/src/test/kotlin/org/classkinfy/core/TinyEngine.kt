package org.classkinfy.core

/** Puts another thing in place of what a stage gave: a broken or lying runtime. */
typealias Fault = (stage: String, outputs: MutableMap<String, Tensor>) -> Unit

/** The runtime of the small bundle: the arithmetic of `android_demo/jvm/tiny_model.py`. */
class TinyProvider @JvmOverloads constructor(
    override val format: String = "onnx",
    private val fault: Fault = { _, _ -> },
) : EngineProvider {
    override val name = if (format == "onnx") "onnxruntime" else "litert"
    override val version = "1.2.3"

    /** What was opened, with the bytes that were handed over. */
    val opened = LinkedHashMap<String, String>()

    /** Every stage that ran. */
    val ran = ArrayList<String>()
    var threads = 0
    var closed = 0

    override fun open(model: ByteArray, name: String, threads: Int, accelerator: String?): Engine {
        if (accelerator != null) throw badEngine("there is no accelerator $accelerator")
        opened[name] = String(model)
        this.threads = threads
        return TinyEngine()
    }

    private inner class TinyEngine : Engine {
        override fun run(entry: String, inputs: Map<String, Tensor>, outputs: List<TensorSpec>): Map<String, Tensor> {
            check(entry.startsWith("serve_")) { "$entry is no entry of a file" }
            val stage = entry.removePrefix("serve_")
            ran += stage
            val features = outputs.firstOrNull { it.name == "features" }?.shape?.get(1) ?: 1
            val given = TinyModel.run(stage, inputs, features).filterKeys { name -> outputs.any { it.name == name } }
            return given.toMutableMap().also { fault(stage, it) }
        }

        override fun close() {
            closed++
        }
    }
}

/** A "photo" of three bytes is an image of that colour, at the bundle's size. */
class TinyDecoder : Decoder {
    override fun decode(photo: ByteArray): Pixels {
        if (photo.size != 3) throw badImage("${photo.size} bytes are no photo", "give three")
        return Tiny.image(photo.map { it.toInt() and 255 }.toIntArray())
    }
}

object Tiny {
    const val HEIGHT = 48
    const val WIDTH = 64
    val GRADED = intArrayOf(4, 10, 70)
    val NOT_GRADED = intArrayOf(3, 38, 5)
    val REFUSED = intArrayOf(4, 39, 70)

    fun image(pixel: IntArray) =
        Pixels(WIDTH, HEIGHT, ByteArray(HEIGHT * WIDTH * 3) { pixel[it % 3].toByte() })

    fun tensor(pixel: IntArray): Tensor = Tensor.of(image(pixel).rgb, 1, HEIGHT, WIDTH, 3)

    fun bundle(): Bundle = Bundle.open(Vectors.wholeBundle)

    fun session(provider: EngineProvider = TinyProvider(), options: Options = Options(precision = "fp32")) =
        Session(bundle(), provider, options)

    fun pipeline(provider: EngineProvider = TinyProvider(), options: Options = Options(precision = "fp32")) =
        ClasskinfyPipeline(bundle(), provider, TinyDecoder(), options)
}

private object TinyModel {
    private const val CLASSES = 7
    private const val SEVERITIES = 3
    private val GRADED = mapOf(4 to "grade_mel", 5 to "grade_nv")

    fun run(stage: String, inputs: Map<String, Tensor>, features: Int): Map<String, Tensor> {
        if (stage == "pipeline") return pipeline(inputs.getValue("image"))
        // Heads on the trunk are given no pixels: what they need is in the embedding.
        val levels = inputs["image"] ?: inputs["clean"]
        val (red, green, blue) = if (levels != null) {
            List(3) { levels.data.get(it).toInt() and 255 }
        } else {
            inputs.getValue("embedding").floats().take(3).map { (it * 256).toInt() }
        }
        return when (stage) {
            "prepare" -> mapOf("clean" to levels!!, "quality" to row(green / 256f, blue / 4f, .25f, .25f))
            "screen" -> mapOf(
                "preliminary" to likeliest(red + 1, CLASSES, .125f),
                "lesion_mask" to Tensor.of(ByteArray(48).also { it[0] = (red % 2).toByte() }, 1, 6, 8),
                "features" to row(*FloatArray(features).also { it[0] = red / 256f }),
            )
            "classify" -> mapOf(
                "probabilities" to likeliest(red, CLASSES, .125f),
                "embedding" to row(red / 256f, green / 256f, blue / 256f, 1f),
            )
            "grade_mel", "grade_nv" -> mapOf("severity" to likeliest(blue, SEVERITIES, .25f))
            else -> throw badEngine("there is no stage $stage")
        }
    }

    private fun pipeline(image: Tensor): Map<String, Tensor> {
        val tensors = linkedMapOf("image" to image)
        for (stage in listOf("prepare", "screen", "classify")) tensors += run(stage, tensors, features = 1)
        val (hair, sharpness) = tensors.getValue("quality").floats()
        val winner = Session.argmax(tensors.getValue("probabilities").floats())
        val refused = hair > .15f
        tensors["accepted"] = Tensor.of(intArrayOf(if (refused) 0 else 1), 1)
        tensors["reasons"] = Tensor.of(intArrayOf((if (refused) 1 else 0) + if (sharpness < 8.1f) 2 else 0), 1)
        tensors["diagnosis"] = Tensor.of(intArrayOf(if (refused) -1 else winner), 1)
        tensors["confidence"] = Tensor.of(floatArrayOf(.25f), 1)
        tensors["severity"] = row(Float.NaN, Float.NaN, Float.NaN)
        if (!refused) GRADED[winner]?.let { tensors += run(it, tensors, features = 1) }
        return tensors
    }

    private fun likeliest(index: Int, size: Int, rest: Float): Tensor =
        row(*FloatArray(size) { if (it == index % size) 1 - rest * (size - 1) else rest })

    private fun row(vararg values: Float): Tensor = Tensor.of(values, 1, values.size)
}
