package org.classkinfy.core

/**
 * A bundle in one runtime, precision and form: a framed image to every tensor, or to an answer.
 *
 * Model files are opened when a stage in them first runs, so a grader that is never routed to costs
 * nothing. One thread at a time.
 */
class Session(@JvmField val bundle: Bundle, provider: EngineProvider, options: Options) : AutoCloseable {
    @JvmField val form: Form = options.form
    @JvmField val runtime: String = provider.name

    private val manifest = bundle.manifest
    private val held = manifest.precisions(provider.format)

    @JvmField val precision: String = options.precision ?: held.firstOrNull() ?: throw badEngine(
        "the bundle holds nothing in ${provider.format}, which ${provider.name} reads",
        "export with formats: [${provider.format}]",
    )

    /** Format, precision and form. */
    @JvmField val label: String = "${provider.format} $precision ${form.label}"

    private val models = Models(bundle, provider, precision, options)

    init {
        val needed = if (form == Form.FUSED) Manifest.PIPELINE else manifest.unrouted.first().name
        if (manifest.model(needed, provider.format, precision) == null) {
            throw badEngine(
                "the bundle has no ${form.label} form in ${provider.format} $precision",
                "it holds ${provider.format} in $held: ask for another form or precision, or export it",
            )
        }
    }

    /** Open the models of the stages that run on every image. */
    fun load() {
        if (form == Form.FUSED) models.load(manifest.pipeline!!) else manifest.unrouted.forEach(models::load)
    }

    override fun close() = models.close()

    /**
     * Run the pipeline on one framed image.
     *
     * @param image as [Frame] gives it
     * @param alsoGrade diagnoses whose graders run beside the routed one (staged form); their outputs
     *   are under `severity_<dx>`
     * @param timings filled with the time of each stage, ms
     * @return every tensor that the stages gave, and the decision's
     * @throws EngineException a runtime failed, or a stage gave NaN or infinity
     */
    @JvmOverloads
    fun run(
        image: Tensor,
        alsoGrade: Collection<String> = emptyList(),
        timings: MutableMap<String, Double> = LinkedHashMap(),
        listener: Listener? = null,
    ): Map<String, Tensor> {
        val tensors = LinkedHashMap<String, Tensor>()
        tensors["image"] = image
        if (form == Form.FUSED) {
            models.run(manifest.pipeline!!, tensors, timings)
            checkFinite(tensors, listOf("quality", "preliminary", "probabilities", "confidence"))
            checkFused(tensors)
            tellPreliminary(tensors, listener)
            tellDiagnosis(tensors, listener)
        } else {
            runStages(tensors, timings, listener)
            grade(tensors, alsoGrade, timings)
        }
        tellSeverity(tensors, listener)
        tensors.remove("image")
        return tensors
    }

    internal fun answer(image: Tensor, listener: Listener?, timings: MutableMap<String, Double>): Answer {
        val tensors = run(image, timings = timings, listener = listener)
        val quality = Quality(tensors.getValue("quality").floats(), manifest)
        val severity = severity(tensors)
        return Answer(
            accepted = tensors.getValue("accepted").ints()[0] != 0,
            reasons = reasons(tensors),
            quality = quality.measures,
            diagnosis = diagnosis(tensors),
            confidence = tensors.getValue("confidence").floats()[0],
            probabilities = byClass(tensors.getValue("probabilities")),
            preliminary = tensors["preliminary"]?.let(::byClass),
            severity = severity?.let(::likeliest),
            severityProbabilities = severity,
            bundle = bundle.sha256,
            runtime = label,
            timingsMs = timings,
            severityNotice = manifest.severityNotice,
            disclaimer = manifest.disclaimer,
        )
    }

    internal fun inspect(image: Tensor): Quality {
        if (form == Form.FUSED) throw badEngine("the fused form has no prepare stage", "open the staged form")
        val tensors = linkedMapOf("image" to image)
        for (stage in manifest.unrouted) {
            models.run(stage, tensors, LinkedHashMap())
            if ("quality" in tensors) break
        }
        checkFinite(tensors, listOf("quality"))
        return Quality(tensors.getValue("quality").floats(), manifest)
    }

    private fun runStages(
        tensors: MutableMap<String, Tensor>,
        timings: MutableMap<String, Double>,
        listener: Listener?,
    ) {
        val screened = manifest.stages.any { stage -> stage.outputs.any { it.name == "preliminary" } }
        var told = false
        for (stage in manifest.unrouted) {
            models.run(stage, tensors, timings)
            checkFinite(tensors, stage.outputs.map { it.name })
            if (!told && "quality" in tensors) {
                val quality = Quality(tensors.getValue("quality").floats(), manifest)
                tensors["accepted"] = Tensor.of(intArrayOf(if (quality.accepted) 1 else 0), 1)
                tensors["reasons"] = Tensor.of(intArrayOf(quality.bits), 1)
                if (!screened || "preliminary" in tensors) {
                    tellPreliminary(tensors, listener)
                    told = true
                }
            }
        }
        val probabilities = tensors.getValue("probabilities").floats()
        val winner = argmax(probabilities)
        val accepted = tensors.getValue("accepted").ints()[0] != 0
        tensors["diagnosis"] = Tensor.of(intArrayOf(if (accepted) winner else UNDECIDED), 1)
        tensors["confidence"] = Tensor.of(floatArrayOf(probabilities[winner]), 1)
        tellDiagnosis(tensors, listener)
    }

    private fun grade(
        tensors: MutableMap<String, Tensor>,
        also: Collection<String>,
        timings: MutableMap<String, Double>,
    ) {
        val count = manifest.taxonomy.severities.size
        val routed = diagnosis(tensors)
        val none = Tensor.of(FloatArray(count) { Float.NaN }, 1, count)
        val given = LinkedHashMap<String, Tensor>()
        for (dx in listOfNotNull(routed) + also) {
            val stage = manifest.grader(dx) ?: continue
            if (dx in given) continue
            val outputs = LinkedHashMap(tensors)
            models.run(stage, outputs, timings)
            checkFinite(outputs, listOf("severity"))
            given[dx] = outputs.getValue("severity")
        }
        for ((dx, severity) in given) tensors["severity_$dx"] = severity
        tensors["severity"] = given[routed] ?: none
    }

    private fun checkFinite(tensors: Map<String, Tensor>, names: List<String>) {
        for (name in names) {
            val tensor = tensors[name] ?: continue
            if (tensor.dtype != Dtype.FLOAT32) continue
            val lost = tensor.floats().count { it.isNaN() || it.isInfinite() }
            if (lost > 0) throw badEngine("$label gives $lost of ${tensor.size} values of $name as NaN or infinity")
        }
    }

    private fun checkFused(tensors: Map<String, Tensor>) {
        val index = tensors.getValue("diagnosis").ints()[0]
        val accepted = tensors.getValue("accepted").ints()[0] != 0
        val allowed = if (accepted) manifest.taxonomy.classes.indices else UNDECIDED..UNDECIDED
        if (index !in allowed) throw badEngine("$label gives $index as the diagnosis, expected $allowed")
        val graded = diagnosis(tensors)?.let { manifest.grader(it) } != null
        if (graded) checkFinite(tensors, listOf("severity"))
    }

    private fun tellPreliminary(tensors: Map<String, Tensor>, listener: Listener?) {
        if (listener == null) return
        val measures = Quality(tensors.getValue("quality").floats(), manifest).measures
        listener.onPreliminary(measures, reasons(tensors), tensors["preliminary"]?.let(::byClass))
    }

    private fun tellDiagnosis(tensors: Map<String, Tensor>, listener: Listener?) {
        if (listener == null) return
        val confidence = tensors.getValue("confidence").floats()[0]
        listener.onDiagnosis(diagnosis(tensors), confidence, byClass(tensors.getValue("probabilities")))
    }

    private fun tellSeverity(tensors: Map<String, Tensor>, listener: Listener?) {
        if (listener == null) return
        severity(tensors)?.let { listener.onSeverity(likeliest(it), it) }
    }

    private fun reasons(tensors: Map<String, Tensor>): List<String> {
        val bits = tensors.getValue("reasons").ints()[0]
        return manifest.qualityRules.filterIndexed { bit, _ -> bits shr bit and 1 == 1 }.map { it.reason }
    }

    private fun diagnosis(tensors: Map<String, Tensor>): String? =
        manifest.taxonomy.classes.getOrNull(tensors.getValue("diagnosis").ints()[0])

    private fun severity(tensors: Map<String, Tensor>): Map<String, Float>? {
        val values = tensors.getValue("severity").floats()
        return if (values.any { it.isNaN() }) null else manifest.taxonomy.severities.zip(values.toList()).toMap()
    }

    private fun byClass(tensor: Tensor): Map<String, Float> =
        manifest.taxonomy.classes.zip(tensor.floats().toList()).toMap()

    companion object {
        /** The diagnosis of a refused frame. */
        const val UNDECIDED = -1

        private fun likeliest(values: Map<String, Float>): String =
            values.keys.elementAt(argmax(values.values.toFloatArray()))

        /** The first of equal ones, as NumPy and the graph have it. */
        internal fun argmax(values: FloatArray): Int {
            var best = 0
            for (i in values.indices) if (values[i] > values[best]) best = i
            return best
        }
    }
}
