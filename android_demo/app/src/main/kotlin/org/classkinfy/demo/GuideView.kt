package org.classkinfy.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View

/** Draws around the part of the preview that is looked at. */
internal class GuideView(context: Context, attributes: AttributeSet) : View(context, attributes) {
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        style = Paint.Style.STROKE
        strokeWidth = 2 * resources.displayMetrics.density
        color = Color.WHITE
    }
    private var imageWidth = 0
    private var imageHeight = 0
    private var ratio = 0f

    /**
     * @param imageWidth of the upright image, which is shown as large as it fits
     * @param ratio width by height of the part
     */
    fun show(imageWidth: Int, imageHeight: Int, ratio: Float) {
        this.imageWidth = imageWidth
        this.imageHeight = imageHeight
        this.ratio = ratio
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        if (ratio == 0f) return
        val scale = minOf(width / imageWidth.toFloat(), height / imageHeight.toFloat())
        val shownWidth = imageWidth * scale
        val shownHeight = imageHeight * scale
        val partWidth = minOf(shownWidth, shownHeight * ratio) / 2
        val partHeight = minOf(shownHeight, shownWidth / ratio) / 2
        canvas.drawRect(
            width / 2f - partWidth, height / 2f - partHeight, width / 2f + partWidth, height / 2f + partHeight, paint,
        )
    }
}
